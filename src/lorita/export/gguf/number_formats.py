"""The number formats in which gguf-py can write a GGUF file."""

from __future__ import annotations

import re
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
"""The values of ``--quantize``, and gguf-py's names for files in these formats."""
PLAIN = r"^position_embd|ffn_gate_inp|ssm_(conv1d|norm)|shortconv\.conv\.|altup_.*(coef|router)"
"""Tensors that stay in float32."""
AS_BASE = "as the base"
"""Each tensor in the format that it has in the base's own GGUF file."""
AT_LEAST_8 = "as the base, at least q8_0"
"""The same, but tensors that the adapter changes have eight bits or more."""


def check_format(name: str) -> str:
    """The format's name in lower case; ``SettingsError`` for one that gguf-py cannot write."""
    word = name.lower()
    if word in FORMATS:
        return word
    hint = f"Choose one of: {', '.join(FORMATS)}."
    if "_k" in word or word.startswith(("iq", "tq", "mxfp")):
        hint += (
            " For other formats, use llama.cpp's own quantiser: export with --quantize f16, then "
            f"run `llama-quantize model.gguf out.gguf {word.upper()}`."
        )
    raise SettingsError(f"quantize = {name!r}: gguf-py cannot write this format", hint=hint)


def closest_format(kind: gguf.GGMLQuantizationType) -> gguf.GGMLQuantizationType:
    """The format itself if gguf-py can write it, else the smallest with at least a bit more.

    llama.cpp's K- and I-quants lose less per bit than the formats that gguf-py can write.
    """
    import gguf

    kinds = gguf.GGMLQuantizationType
    if kind.name.lower() in FORMATS:
        return kind
    finer = (
        kinds[name.upper()] for name in FORMATS if _bits(kinds[name.upper()]) >= _bits(kind) + 1
    )
    return min(finer, key=_bits)


def eight_bits(kind: gguf.GGMLQuantizationType) -> gguf.GGMLQuantizationType:
    """The format itself if it has eight bits or more, else q8_0."""
    import gguf

    q8_0 = gguf.GGMLQuantizationType.Q8_0
    return kind if _bits(kind) >= 8 else q8_0


def _bits(kind: gguf.GGMLQuantizationType) -> float:
    """Bits of a weight."""
    import gguf

    block, size = gguf.GGML_QUANT_SIZES[kind]
    return 8.0 * int(size) / int(block)


def file_type(name: str) -> int:
    """The number that stands for the format in a file's metadata (``general.file_type``)."""
    import gguf

    return int(gguf.LlamaFileType[FORMATS[name]])


def tensor_format(file_name: str, shape: tuple[int, ...], wanted: str) -> gguf.GGMLQuantizationType:
    """The format in which to write one tensor.

    Vectors, position tables, routers and what llama.cpp computes with as it is (``PLAIN``) stay in
    float32. Embeddings and output have at least eight bits,
    since they lose too much below. Rows that do not divide into blocks are float16.
    """
    import gguf

    kinds = gguf.GGMLQuantizationType
    plain = len(shape) < 2 or not file_name.endswith(".weight") or re.search(PLAIN, file_name)
    if plain or wanted == "f32":
        return kinds.F32
    if file_name in ("token_embd.weight", "output.weight") and wanted.startswith(("q4", "q5")):
        wanted = "q8_0"
    kind = kinds[wanted.upper()]
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    return kind if shape[-1] % block == 0 else kinds.F16


def encode(tensor: np.ndarray[Any, Any], kind: gguf.GGMLQuantizationType) -> np.ndarray[Any, Any]:
    """A float32 array in the format ``kind``: float32 itself, or an array of bytes."""
    import gguf
    import numpy as np

    if kind == gguf.GGMLQuantizationType.F32:
        return np.ascontiguousarray(tensor, dtype=np.float32)
    array = np.ascontiguousarray(tensor, dtype=np.float32)
    encoded: np.ndarray[Any, Any] = gguf.quants.quantize(array, kind)
    return encoded


def byte_shape(shape: tuple[int, ...], kind: gguf.GGMLQuantizationType) -> tuple[int, ...]:
    """The shape of a tensor in the format ``kind``, its last dimension in bytes."""
    import gguf

    return tuple(gguf.quant_shape_to_byte_shape(shape, kind))
