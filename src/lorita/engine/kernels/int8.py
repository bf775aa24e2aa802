"""Frozen weights as 8-bit integers, for products at twice the speed of bf16.

A weight never changes, so it is rounded once, with one scale per output row. Activations and
gradients are rounded in each product, with one scale per token (dynamic quantisation, as in
LLM.int8, Dettmers et al., 2022, without its outlier columns). The same integers serve both
directions: in the backward pass the weight's scales are multiplied into the gradient before it is
rounded. Sums are exact in 32 bits. Not for the output head: its gradient is one large number among
many tiny ones, which rounding would lose.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lorita.engine.kernels.native import kernel

LARGEST = 127


@dataclass(frozen=True)
class Int8Weight:
    """A frozen weight [O, I]: ``values_OI`` int8 times ``scale_O`` float32."""

    values_OI: Tensor
    scale_O: Tensor

    @classmethod
    def of(cls, weight_OI: Tensor) -> Int8Weight:
        """Round a weight [O, I]; the largest absolute value of each row becomes 127."""
        return cls(*quantized(weight_OI.detach().contiguous()))

    def forward(self, x_TI: Tensor) -> Tensor:
        """``x·Wᵀ`` [T, O], in x's dtype."""
        values, scale_T = quantized(x_TI)
        sums_TO = torch._int_mm(values, self.values_OI.t())
        return _scaled(sums_TO, scale_T, self.scale_O, x_TI.dtype)

    def backward(self, grad_TO: Tensor) -> Tensor:
        """``grad·W`` [T, I], in grad's dtype."""
        values, scale_T = quantized(grad_TO, self.scale_O)
        sums_TI = torch._int_mm(values, self.values_OI)
        return _scaled(sums_TI, scale_T, None, grad_TO.dtype)


def quantized(x_TI: Tensor, times_I: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """``x·times`` as int8 [T, I], and a float32 scale per row [T]; 0 for a row of zeros.

    Rounds to nearest, ties to even.
    """
    x_TI = x_TI.contiguous()
    run = kernel("quantize", x_TI)
    if run is not None:
        values = torch.empty(x_TI.shape, dtype=torch.int8)
        scale = torch.empty(len(x_TI), dtype=torch.float32)
        times = None if times_I is None else times_I.data_ptr()
        run(x_TI.data_ptr(), times, values.data_ptr(), scale.data_ptr(), *x_TI.shape)
        return values, scale
    wide = x_TI.float() if times_I is None else x_TI.float() * times_I
    top = wide.abs().amax(1)
    factor = torch.where(top > 0, LARGEST / top, 0.0)
    return (wide * factor[:, None]).round().to(torch.int8), top / LARGEST


def _scaled(sums_TO: Tensor, scale_T: Tensor, scale_O: Tensor | None, dtype: torch.dtype) -> Tensor:
    """``sums · scale_T · scale_O`` in ``dtype``, rounded once."""
    out = torch.empty(sums_TO.shape, dtype=dtype)
    run = kernel("rescale", out)
    if run is not None:
        columns = None if scale_O is None else scale_O.data_ptr()
        run(sums_TO.data_ptr(), scale_T.data_ptr(), columns, out.data_ptr(), *out.shape)
        return out
    wide = sums_TO.float() * scale_T[:, None]
    return (wide if scale_O is None else wide * scale_O).to(dtype)
