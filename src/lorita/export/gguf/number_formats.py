"""The number formats that a GGUF file is written in here, by gguf-py itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lorita.errors import SettingsError

if TYPE_CHECKING:
    import gguf
    import numpy as np

FORMATS = {
    "f32": "ALL_F32",
    "f16": "MOSTLY_F16",
    "bf16": "MOSTLY_BF16",
    "q8_0": "MOSTLY_Q8_0",
    "q4_0": "MOSTLY_Q4_0",
    "q4_1": "MOSTLY_Q4_1",
    "q5_0": "MOSTLY_Q5_0",
    "q5_1": "MOSTLY_Q5_1",
}
"""What ``--quantize`` takes, and gguf-py's name for a file of it."""


def check_format(name: str) -> str:
    """The format's name in lower case; ``SettingsError`` for one that cannot be written."""
    word = name.lower()
    if word in FORMATS:
        return word
    hint = f"There are: {', '.join(FORMATS)}."
    if "_k" in word or word.startswith(("iq", "tq", "mxfp")):
        hint += (
            " llama.cpp's own quantiser makes the others: export with --quantize f16, then "
            f"run `llama-quantize model.gguf out.gguf {word.upper()}`."
        )
    raise SettingsError(f"quantize = {name!r}: gguf-py cannot write this format", hint=hint)


def file_type(name: str) -> int:
    """The number that says in a file's metadata what most of its tensors are."""
    import gguf

    return int(gguf.LlamaFileType[FORMATS[name]])


def tensor_format(file_name: str, shape: tuple[int, ...], wanted: str) -> gguf.GGMLQuantizationType:
    """What one tensor is written as.

    Vectors and tables of positions stay float32; embeddings and output lose too much below eight
    bits; rows that blocks do not fit into stay float16.
    """
    import gguf

    kinds = gguf.GGMLQuantizationType
    if len(shape) < 2 or file_name.startswith("position_embd") or wanted == "f32":
        return kinds.F32
    if file_name in ("token_embd.weight", "output.weight") and wanted.startswith(("q4", "q5")):
        wanted = "q8_0"
    kind = kinds[wanted.upper()]
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    return kind if shape[-1] % block == 0 else kinds.F16


def encode(tensor: np.ndarray[Any, Any], kind: gguf.GGMLQuantizationType) -> np.ndarray[Any, Any]:
    """float32 numbers as the bytes of ``kind``."""
    import gguf
    import numpy as np

    if kind == gguf.GGMLQuantizationType.F32:
        return np.ascontiguousarray(tensor, dtype=np.float32)
    array = np.ascontiguousarray(tensor, dtype=np.float32)
    encoded: np.ndarray[Any, Any] = gguf.quants.quantize(array, kind)
    return encoded


def byte_shape(shape: tuple[int, ...], kind: gguf.GGMLQuantizationType) -> tuple[int, ...]:
    """The shape in bytes of a tensor written as ``kind``."""
    import gguf

    return tuple(gguf.quant_shape_to_byte_shape(shape, kind))
