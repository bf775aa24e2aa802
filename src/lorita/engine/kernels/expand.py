"""Quantised blocks, as GGUF files hold them, expanded into ordinary numbers.

What is here knows blocks and nothing of files, so that weights may as well stay quantised in memory
and be expanded when they are used. Its naive twin is ``gguf.quants.dequantize``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lorita.engine.kernels.native import kernel
from lorita.errors import ModelError

BLOCKS = {
    2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210),
    20: (32, 18), 23: (256, 136),
}  # fmt: skip
"""Numbers and bytes of a block, by the number of its format in ggml: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0,
Q2_K to Q6_K, IQ4_NL and IQ4_XS."""
FLOATS = {0: torch.float32, 1: torch.float16, 30: torch.bfloat16}
"""ggml's formats that torch has, too."""
SLICE = 2**22
"""Numbers that gguf-py expands at a time."""


def block_of(kind: int) -> tuple[int, int]:
    """Numbers and bytes of a block of any of ggml's formats; needs gguf for rare ones."""
    if kind in BLOCKS:
        return BLOCKS[kind]
    if kind in FLOATS:
        return 1, FLOATS[kind].itemsize
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    return GGML_QUANT_SIZES[GGMLQuantizationType(kind)]  # type: ignore[no-any-return]


def can_expand(kind: int, dtype: torch.dtype) -> bool:
    """Whether a compiled kernel expands this format into this dtype on this machine."""
    return kind in BLOCKS and kernel("expand", torch.empty(0, dtype=dtype)) is not None


def expand(blocks: Tensor, kind: int, out: Tensor) -> None:
    """Expand whole blocks (uint8, contiguous, on the CPU) into ``out`` (contiguous).

    Each number is computed in float32 and rounded once, to the nearest. Uses all threads; where
    there is no kernel for the format or dtype, gguf-py does it, a slice at a time. ``ValueError``
    if the sizes do not agree, ``ModelError`` for a format that cannot be read.
    """
    numbers, size = block_of(kind)
    count = blocks.numel() // size
    whole = blocks.numel() == count * size and out.numel() == count * numbers
    if not whole or blocks.dtype != torch.uint8:
        raise ValueError(f"{blocks.numel()} bytes are not the blocks of {out.numel()} numbers")
    if not blocks.is_contiguous() or not out.is_contiguous():
        raise ValueError("blocks and result must be contiguous")
    if kind in FLOATS:
        out.view(-1).copy_(blocks.view(-1).view(FLOATS[kind]))
    elif can_expand(kind, out.dtype):
        _by_kernel(blocks, kind, count, out)
    else:
        _in_slices(blocks.view(-1), kind, out.view(-1))


def _by_kernel(blocks: Tensor, kind: int, count: int, out: Tensor) -> None:
    function = kernel("expand", out)
    if function is not None:
        function(blocks.data_ptr(), kind, count, out.data_ptr())


def _in_slices(blocks: Tensor, kind: int, flat: Tensor) -> None:
    numbers, size = block_of(kind)
    step = max(SLICE // numbers, 1)
    part = torch.empty(step * numbers) if can_expand(kind, torch.float32) else None
    for first in range(0, blocks.numel() // size, step):
        some = blocks[first * size : (first + step) * size]
        place = flat[first * numbers : (first + step) * numbers]
        if part is not None:
            expand(some, kind, part[: place.numel()])
            place.copy_(part[: place.numel()])
        else:
            place.copy_(_by_gguf(some, kind, size))


def _by_gguf(blocks: Tensor, kind: int, size: int) -> Tensor:
    """Blocks as float32; ``ModelError`` for a kind that gguf-py cannot expand."""
    from gguf import GGMLQuantizationType, quants

    name = GGMLQuantizationType(kind)
    try:
        array = quants.dequantize(blocks.numpy().reshape(-1, size), name)
    except NotImplementedError:
        raise ModelError(f"tensors in the number format {name.name} cannot be read") from None
    return torch.from_numpy(array).view(-1)
