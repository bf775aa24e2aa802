"""Dropout before the adapters, shared by all adapters with the same input.

The compiled kernel decides from a seed and a number's position whether to keep it, so the backward
pass recomputes the decision and no mask is stored; without the kernel a mask is drawn. Both draw
from torch's generator, so that a run can be repeated and resumed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lorita.engine.kernels.native import kernel


def drop(x: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """``x`` with a ``share`` of its numbers set to 0, and a record of which, for ``add_kept``.

    The rest is not scaled up: the caller divides by ``1 - share``.
    """
    run = kernel("drop", x)
    if run is None:
        mask = _mask(x.shape, share, x.device)
        return x * mask, mask
    x = x.contiguous()
    seed = torch.empty((), dtype=torch.int64).random_()
    out = torch.empty_like(x)
    run(x.data_ptr(), out.data_ptr(), x.numel(), int(seed), _threshold(share))
    return out, seed


def add_kept(out: Tensor, x: Tensor, kept: Tensor, share: float) -> None:
    """``out += x`` where ``drop`` kept a number. All of the same shape, ``out`` contiguous."""
    if kept.dtype == torch.bool:
        out += x * kept
        return
    run = kernel("add_kept", x)
    assert run is not None and out.is_contiguous()
    run(x.contiguous().data_ptr(), out.data_ptr(), x.numel(), int(kept), _threshold(share))


def _threshold(share: float) -> int:
    return round(share * 2**32)


def _mask(shape: torch.Size, share: float, device: torch.device) -> Tensor:
    """True with probability ``1 - share``, to the nearest 1/65536.

    Sixteen random bits decide a number, so one 64-bit draw serves four: drawing a float for each
    costs more than the products of a small layer.
    """
    count = shape.numel()
    bits = torch.empty((count + 3) // 4, dtype=torch.int64, device=device)
    bits.random_(-(2**63), None)
    threshold = round(share * 65536) - 32768
    return (bits.view(torch.int16)[:count] >= threshold).view(shape)
