"""GGUF files as base models: read once by transformers, then cached in Hugging Face format.

Reading a GGUF file takes tens of seconds each time; the cached folder loads in one second. It is
in the hub's cache (``HF_HOME``), keyed by the file, its size and its modification time.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.errors import ModelError
from lorita.models.gguf_header import FalseHeader, check_header
from lorita.storage.cache import find_kept, kept_folder, mark_of
from lorita.storage.reading import one_message, plain_size
from lorita.system.quiet import quiet_libraries

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

MAGIC = b"GGUF"
LARGEST_KEPT = 4 * 2**30
"""Converted weights larger than this many bytes are not cached: they would fill a small disk."""


def check_gguf(path: Path) -> None:
    """Raise ``ModelError`` unless ``path`` is readable and starts like a GGUF file."""
    if not path.exists():
        raise ModelError(f"{path}: file not found")
    plain_size(path, ModelError)
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


def open_gguf(path: Path) -> Any:
    """The reader of the gguf package on a file whose tensors are all there.

    Raises ``ModelError`` if the file is truncated or damaged, or the package is missing.
    """
    try:
        from gguf import GGUFReader
    except ImportError:
        raise ModelError(
            f"{path}: reading GGUF files needs the gguf package",
            hint='Install it with: pip install "lorita[gguf]"',
        ) from None
    try:
        check_header(path)
        reader = GGUFReader(path)
        end = max((int(t.data_offset) + int(t.n_bytes) for t in reader.tensors), default=0)
    except Exception as error:  # the reader fails in many ways on a truncated file
        raise ModelError(
            f"{path}: the GGUF file is damaged or truncated ({_reason(error)})",
            hint="Download it again and compare its size with the original.",
        ) from error
    if end == 0 or end > path.stat().st_size:
        raise ModelError(
            f"{path}: the GGUF file is truncated: {path.stat().st_size:,} of {end:,} bytes",
            hint="Download it again and compare its size with the original.",
        )
    return reader


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, FalseHeader) else type(error).__name__


def metadata(path: Path, *keys: str) -> dict[str, Any]:
    """These values of a GGUF file's metadata, as far as it has them; ``ModelError`` if damaged."""
    fields = open_gguf(path).fields
    with one_message(f"{path}: the metadata of the GGUF file is damaged", ModelError):
        return {key: fields[key].contents() for key in keys if key in fields}


def folder_without_weights(path: Path) -> Path:
    """The file's configuration and tokenizer as a cached folder in Hugging Face format.

    Raises ``ModelError`` if the file is truncated or the gguf package is missing.
    """

    def convert(folder: Path) -> None:
        from transformers import AutoConfig, AutoTokenizer

        open_gguf(path)
        where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        config = AutoConfig.from_pretrained(**where)
        _clear(config, "quantization_config")
        config.save_pretrained(folder)
        AutoTokenizer.from_pretrained(**where).save_pretrained(folder)

    return _converted(path, "config", convert)


def load_weights(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The model in ``dtype``, read from the file the first time and from the cache afterwards."""
    import torch
    from transformers import AutoModelForCausalLM

    kind = str(dtype).removeprefix("torch.")
    for kept in dict.fromkeys((kind, "float32")):  # float32 has what narrower formats are cut from
        folder = find_kept(*_place(path, kept))
        if folder is not None:
            stored: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
            return stored
    model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=dtype)
    _clear_quantization_mark(model)
    size = (
        sum(parameter.numel() for parameter in model.parameters())
        * torch.empty(0, dtype=dtype).itemsize
    )
    if size > LARGEST_KEPT:
        return model
    folder = _converted(path, kind, model.save_pretrained)
    del model  # mapped from the file, it takes less memory
    again: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return again


def is_converted(path: Path, kind: str) -> bool:
    """Whether the cache holds the file's weights in this number format (torch's name).

    ``config`` is everything but the weights.
    """
    return find_kept(*_place(path, kind)) is not None


def _place(path: Path, kind: str) -> tuple[str, str]:
    """Name and mark of a converted file, for ``kept_folder``."""
    # Another version of transformers may read the same file better.
    return f"{path.stem}-{kind}", f"{mark_of(path)}:{version('transformers')}"


def _converted(path: Path, kind: str, convert: Callable[[Path], None]) -> Path:
    """The cached folder, made by ``convert`` if it is not there yet."""

    def quietly(folder: Path) -> None:
        with quiet_libraries(hide_bars=True):
            convert(folder)

    return kept_folder(*_place(path, kind), quietly)


def _clear_quantization_mark(model: PreTrainedModel) -> None:
    """Remove transformers' mark that the model is quantised.

    The tensors read from a GGUF file are ordinary ones, but the mark makes ``save_pretrained`` and
    the HF Trainer reject the model.
    """
    _clear(model.config, "quantization_config")
    for name in ("is_quantized", "hf_quantizer", "quantization_method"):
        _clear(model, name)


def _clear(holder: object, name: str) -> None:
    if name in vars(holder):
        delattr(holder, name)


def float_type(path: Path) -> str | None:
    """The torch dtype name of a GGUF file's number format; None if it is quantised."""
    kind = metadata(path, "general.file_type").get("general.file_type")
    names = {0: "float32", 1: "float16", 32: "bfloat16"}
    return names.get(kind) if isinstance(kind, int) else None
