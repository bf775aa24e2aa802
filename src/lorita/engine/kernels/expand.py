"""Quantised blocks, as GGUF files hold them, expanded into ordinary numbers.

``expand`` knows blocks and nothing of files, so that weights may as well stay quantised in memory
and be expanded when they are used. Its naive twin is ``gguf.quants.dequantize``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lorita.engine.kernels.native import kernel

BLOCKS = {
    2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210),
    20: (32, 18), 23: (256, 136),
}  # fmt: skip
"""Numbers and bytes of a block, by the number of its format in ggml: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0,
Q2_K to Q6_K, IQ4_NL and IQ4_XS."""


def can_expand(kind: int, dtype: torch.dtype) -> bool:
    """Whether ``expand`` has a compiled kernel for this format and dtype on this machine."""
    return kind in BLOCKS and kernel("expand", torch.empty(0, dtype=dtype)) is not None


def expand(blocks: Tensor, kind: int, out: Tensor) -> None:
    """Expand whole blocks (uint8, contiguous, on the CPU) into ``out``, float32 or bfloat16.

    Each number is computed in float32 and rounded once, to the nearest. Uses all threads.
    ``ValueError`` if the sizes do not agree or ``can_expand`` says no.
    """
    function = kernel("expand", out)
    if function is None or kind not in BLOCKS:
        raise ValueError(f"no kernel expands blocks of format {kind} into {out.dtype}")
    numbers, size = BLOCKS[kind]
    count = blocks.numel() // size
    whole = blocks.numel() == count * size and out.numel() == count * numbers
    if not whole or blocks.dtype != torch.uint8:
        raise ValueError(f"{blocks.numel()} bytes are not the blocks of {out.numel()} numbers")
    if not blocks.is_contiguous() or not out.is_contiguous():
        raise ValueError("blocks and result must be contiguous")
    function(blocks.data_ptr(), kind, count, out.data_ptr())
