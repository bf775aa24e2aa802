"""Frozen weights as 8-bit integers, for faster products.

A weight never changes, so it is rounded once, with one scale per output row. Activations and
gradients are rounded in each product, with one scale per token (dynamic quantisation, as in
LLM.int8, Dettmers et al., 2022, without its outlier columns). The same integers serve both
directions: in the backward pass the weight's scales are multiplied into the gradient before it is
rounded. Sums are exact in 32 bits. Not for the output head: its gradient is one large number among
many tiny ones, which rounding would lose.

Processors with 8-bit products round activations to 8 bits, too, and are then twice as fast as in
bf16. Others multiply 16-bit integers twice as fast as float32 (``int8.cpp``): there activations
have 16 bits, and only the weights are rounded noticeably.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lorita.engine.kernels.native import kernel
from lorita.engine.processor import usable_instructions

LARGEST = {8: 127, 16: 32767}
"""By the bits of an integer."""


_unrounded: ContextVar[bool] = ContextVar("unrounded", default=False)


@contextmanager
def unrounded() -> Iterator[None]:
    """In this context, layers use their own weights, not the rounded ones: for figures and checks.

    What a model is measured as is what its files hold, whatever it is trained with.
    """
    before = _unrounded.set(True)
    try:
        yield
    finally:
        _unrounded.reset(before)


def rounds() -> bool:
    """Whether rounded weights are used where there are any; see ``unrounded``."""
    return not _unrounded.get()


def activation_bits() -> int:
    """To how many bits activations and gradients are rounded here."""
    usable = usable_instructions()
    return 16 if "avx2" in usable and "avx512_vnni" not in usable else 8


@dataclass(frozen=True)
class Int8Weight:
    """A frozen weight [O, I]: ``values_OI`` int8 times ``scale_O`` float32."""

    values_OI: Tensor
    scale_O: Tensor
    bits: int = 8
    """Of activations and gradients: 8 or 16."""

    @classmethod
    def of(cls, weight_OI: Tensor, bits: int | None = None) -> Int8Weight:
        """Round a weight [O, I]; the largest absolute value of each row becomes 127.

        ``bits`` is ``activation_bits()`` unless given.
        """
        return cls(*quantized(weight_OI.detach().contiguous()), bits or activation_bits())

    def forward(self, x_TI: Tensor) -> Tensor:
        """``x·Wᵀ`` [T, O], in x's dtype."""
        if self.bits == 16:
            return self._wide(x_TI, backward=False)
        values, scale_T = quantized(x_TI)
        sums_TO = torch._int_mm(values, self.values_OI.t())
        return _scaled(sums_TO, scale_T, self.scale_O, x_TI.dtype)

    def backward(self, grad_TO: Tensor) -> Tensor:
        """``grad·W`` [T, I], in grad's dtype."""
        if self.bits == 16:
            return self._wide(grad_TO, backward=True)
        values, scale_T = quantized(grad_TO, self.scale_O)
        sums_TI = torch._int_mm(values, self.values_OI)
        return _scaled(sums_TI, scale_T, None, grad_TO.dtype)

    def _wide(self, x: Tensor, *, backward: bool) -> Tensor:
        """A product with 16-bit activations. Where they have no kernel, they are not rounded."""
        weight, scale_O = self.values_OI, self.scale_O
        out = torch.empty(len(x), weight.shape[1 if backward else 0])
        run = kernel("int8_backward" if backward else "int8_forward", out)
        if run is None:
            wide = x.float()
            exact = (
                (wide * scale_O) @ weight.float()
                if backward
                else functional.linear(wide, weight.float()) * scale_O
            )
            return exact.to(x.dtype)
        values, scale_T = quantized(x, scale_O if backward else None, bits=16)
        columns = () if backward else (scale_O.data_ptr(),)
        run(
            values.data_ptr(), weight.data_ptr(), scale_T.data_ptr(), *columns, out.data_ptr(),
            len(x), *weight.shape,
        )  # fmt: skip
        return out.to(x.dtype)


def quantized(
    x_TI: Tensor, times_I: Tensor | None = None, *, bits: int = 8
) -> tuple[Tensor, Tensor]:
    """``x·times`` as integers [T, I], and a float32 scale per row [T]; 0 for a row of zeros.

    Rounds to nearest, ties to even. With 16 bits and an odd I, a column of zeros is added.
    """
    x_TI = x_TI.contiguous()
    rows, width = x_TI.shape
    dtype = torch.int8 if bits == 8 else torch.int16
    padding = width % 2 if bits == 16 else 0
    run = kernel("quantize" if bits == 8 else "quantize16", x_TI)
    if run is not None:
        values = torch.empty(rows, width + padding, dtype=dtype)
        scale = torch.empty(rows, dtype=torch.float32)
        times = None if times_I is None else times_I.data_ptr()
        run(x_TI.data_ptr(), times, values.data_ptr(), scale.data_ptr(), rows, width)
        return values, scale
    wide = x_TI.float() if times_I is None else x_TI.float() * times_I
    top = wide.abs().amax(1)
    factor = torch.where(top > 0, LARGEST[bits] / top, 0.0)
    whole = (wide * factor[:, None]).round().to(dtype)
    return functional.pad(whole, (0, padding)), top / LARGEST[bits]


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
