"""GGUF files as base models: recognise a whole one, and undo the mark that reading it leaves.

The reading itself is done by transformers and the ``gguf`` package.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lorita.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAGIC = b"GGUF"


def check_gguf(path: Path) -> None:
    """``ModelError`` unless ``path`` is a complete GGUF file and the reader is installed."""
    if not path.exists():
        raise ModelError(f"{path}: there is no such file")
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    if magic != MAGIC:
        raise ModelError(
            f"{path}: not a GGUF file (it starts with {magic!r}, not {MAGIC!r})",
            hint="--model takes a .gguf file, a folder in Hugging Face format or a hub id.",
        )
    _check_complete(path)


def _check_complete(path: Path) -> None:
    try:
        from gguf import GGUFReader
    except ImportError:
        raise ModelError(
            f"{path}: reading GGUF files needs the gguf package",
            hint='Install it with: pip install "lorita[gguf]"',
        ) from None
    try:
        reader = GGUFReader(path)
        end = max((int(t.data_offset) + int(t.n_bytes) for t in reader.tensors), default=0)
    except Exception as error:  # the reader fails in many ways on a file that is cut
        raise ModelError(
            f"{path}: the GGUF file is damaged or cut short ({type(error).__name__})",
            hint="Download it again and compare its size with the original's.",
        ) from error
    if end == 0 or end > path.stat().st_size:
        raise ModelError(
            f"{path}: the GGUF file is cut short: {path.stat().st_size:,} bytes of {end:,}",
            hint="Download it again and compare its size with the original's.",
        )


def clear_quantization_mark(model: PreTrainedModel) -> None:
    """Take back transformers' note that the model is quantised.

    The tensors read from a GGUF file are plain, but the note makes ``save_pretrained`` and the
    HF Trainer refuse the model.
    """
    for holder, name in (
        (model.config, "quantization_config"),
        (model, "is_quantized"),
        (model, "hf_quantizer"),
        (model, "quantization_method"),
    ):
        if name in vars(holder):
            delattr(holder, name)
