"""The configuration of a GGUF file: by lorita's own table (``gguf_families``) or transformers.

transformers takes seconds to read a large vocabulary through the gguf package, and does it once for
each question. The configuration does not need the vocabulary: it is read from a copy of the header
without it. What transformers does not read is completed here.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.errors import ModelError
from lorita.models.gguf_completed import complete_config
from lorita.models.gguf_families import FAMILIES, own_settings
from lorita.models.gguf_header import ALIGNMENT, Header
from lorita.models.gguf_metadata import OTHERWISE, Metadata
from lorita.models.gguf_rope import read_rope

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from lorita.models.gguf_files import GgufFile

NOT_READ = {
    "cohere2", "gemma", "gemma3n", "gemma4", "jamba", "lfm2moe", "mamba2", "olmoe", "qwen35moe",
    "qwen3next",
}  # fmt: skip
"""Architectures of which transformers makes a model with other numbers, or none."""
EMBEDDINGS, POSITIONS = "token_embd.weight", "position_embd.weight"
_BIASES = {
    "attention_bias": ("attn_q.bias", "attn_output.bias"),
    "mlp_bias": ("ffn_up.bias", "ffn_down.bias"),
}
"""Settings of transformers' configurations, and tensors that are there only if they are on."""
_FLOAT32 = 0
_VOCABULARY = "tokenizer.ggml."


def read_gguf_config(file: GgufFile) -> PretrainedConfig:
    """The configuration; raises whatever transformers raises for an architecture it lacks.

    ``ModelError`` for metadata of a known family that are not understood.
    """
    from transformers import AutoConfig

    header, tensors = file.header, file.tensors
    meta = Metadata(file.path, header, tensors)
    if meta.architecture in NOT_READ:
        raise ModelError(
            f"{file.path}: lorita writes GGUF files of the architecture {meta.architecture!r}, but "
            "does not read them",
            hint=OTHERWISE,
        )
    own = meta.architecture in FAMILIES
    if own:
        config = AutoConfig.for_model(
            **own_settings(meta, read_rope(meta, _numbers_of(file, meta)))
        )
    else:
        with tempfile.TemporaryDirectory(prefix="lorita-gguf-") as folder:
            short = Path(folder) / "header.gguf"
            short.write_bytes(_without_vocabulary(header, tensors))
            config = AutoConfig.from_pretrained(folder, gguf_file=short.name)
    config.name_or_path = str(file.path)
    _complete(config, header, tensors)
    if not own:
        complete_config(config, meta, lambda: read_rope(meta, _numbers_of(file, meta)))
    if "quantization_config" in vars(config):
        del config.quantization_config  # the weights will be ordinary ones
    return config  # type: ignore[no-any-return]


def _numbers_of(file: GgufFile, meta: Metadata) -> Callable[[str], list[float]]:
    """What reads a vector by its name."""

    def numbers(name: str) -> list[float]:
        stored = file.tensors[name]
        if stored.kind != _FLOAT32:
            raise meta.error(f"{name} is not in float32")
        read = file.reader(lambda owner, stored: owner.bytes_of(stored))
        return list(read(stored).reshape(-1).view("<f4").tolist())

    return numbers


def _complete(config: Any, header: Header, tensors: Mapping[str, Any]) -> None:
    """Set what transformers does not read, from the metadata and from which tensors there are."""
    if EMBEDDINGS in tensors:
        config.vocab_size = tensors[EMBEDDINGS].shape[0]
        if (getattr(config, "pad_token_id", None) or 0) >= config.vocab_size:
            config.pad_token_id = None  # a default of transformers, not of this model
    if POSITIONS in tensors:
        config.max_position_embeddings = tensors[POSITIONS].shape[0]
    width = header.get(f"{header.get('general.architecture')}.attention.key_length")
    if width is not None and getattr(config, "head_dim", None) is not None:
        config.head_dim = width
    for setting, names in _BIASES.items():
        if getattr(config, setting, None) is False and all(f"blk.0.{n}" in tensors for n in names):
            setattr(config, setting, True)


def _without_vocabulary(header: Header, tensors: Mapping[str, Any]) -> bytes:
    """The header without the long arrays, and with the names of the tensors but nothing in them."""
    entries = [
        header.entry_bytes(key)
        for key in header.entries
        if not (key.startswith(_VOCABULARY) and header.is_array(key))
    ]
    places = [_text(name) + struct.pack("<IQIQ", 1, 1, _FLOAT32, 0) for name in tensors]
    counts = struct.pack("<IQQ", 3, len(places), len(entries))
    return b"".join([b"GGUF", counts, *entries, *places, bytes(2 * ALIGNMENT + 4)])


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()
