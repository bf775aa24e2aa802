"""Products with frozen weights, by the library that is fastest for them; without a gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from lorita.engine.processor import has_bf16_products, has_float16_products

WIDE_AT_ONCE = 2**23
"""Numbers of a weight that are float32 at a time where 16 bits are widened: 32 MB."""


class RoundedWeight(Protocol):
    """A frozen weight [O, I] in a format of its own, which computes its products itself."""

    def forward(self, x_TI: Tensor) -> Tensor:
        """The product ``x·Wᵀ``, [T, O], in the type of ``x``."""
        ...

    def backward(self, grad_TO: Tensor) -> Tensor:
        """The product ``grad·W``, [T, I], in the type of ``grad``."""
        ...


class QuantisedWeight(RoundedWeight, Protocol):
    """A weight whose numbers exist only while they are used (``block_tensor.py``)."""

    dtype: torch.dtype
    shape: tuple[int, int]

    def __len__(self) -> int: ...

    def beside(self, others: Sequence[QuantisedWeight]) -> QuantisedWeight:
        """This and the others as one weight: their outputs side by side."""
        ...

    def place(self) -> tuple[int, int] | None:
        """The address of the blocks, and their format in ggml, if the kernels know it."""
        ...


def quantised(weight: Tensor) -> QuantisedWeight | None:
    """What computes the products of a model's weight that stays quantised; None for any other."""
    return getattr(weight, "quantised", None)


def ordinary(weight: Tensor) -> Tensor:
    """A model's weight as numbers that any program can read: one that stays quantised, expanded."""
    expanded = getattr(weight, "expanded", None)
    return weight if expanded is None else expanded()  # type: ignore[no-any-return]


def for_products(weight: Tensor) -> Tensor | QuantisedWeight:
    """A frozen weight as ``product`` takes it."""
    blocks = quantised(weight)
    return weight if blocks is None else blocks


def product(x: Tensor, weight: Tensor | RoundedWeight, bias: Tensor | None = None) -> Tensor:
    """``x·Wᵀ + bias`` for x [T, I], weight [O, I], either may be a transposed view; no gradient.

    float32 goes through oneDNN if ``use_onednn_float32`` was called; 16 bits go there in any case,
    or are computed in float32 (``widened``).
    """
    if not isinstance(weight, Tensor):
        out = weight.forward(x)
        return out if bias is None else out.add_(bias)
    if widened(x):
        out = _wide_product(x, weight)
        return (out if bias is None else out.add_(bias)).to(x.dtype)
    if onednn_float32(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]
    return functional.linear(x, weight, bias)


def product_back(grad: Tensor, weight: Tensor | RoundedWeight) -> Tensor:
    """``grad·W`` for grad [T, O]: the gradient of the input of ``product``."""
    return product(grad, weight.t()) if isinstance(weight, Tensor) else weight.backward(grad)


def onednn_float32(x: Tensor) -> bool:
    """Whether products of this tensor go through oneDNN, as ``use_onednn_float32`` says."""
    asked = x.dtype == torch.float32 and x.device.type == "cpu" and _route["onednn_float32"]
    return bool(asked and torch.backends.mkldnn.is_available())


def times(a: Tensor, b: Tensor) -> Tensor:
    """``a·b`` of two matrices in the type of ``a``; no gradient."""
    return _wide_product(a, b.t()).to(a.dtype) if widened(a) else a @ b


def add_times(out: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Add ``a·b`` to ``out`` in place; no gradient."""
    return out.add_(_wide_product(a, b.t())) if widened(a) else out.addmm_(a, b)


def widened(x: Tensor) -> bool:
    """Whether products of this tensor are computed in float32, though its numbers have 16 bits.

    So on processors for which oneDNN has no products in that format: torch's own loops are many
    times as slow there as float32. Only the piece of a weight that is in use is ever wide, so that
    a model takes half the memory at nearly the speed of float32.
    """
    if x.device.type != "cpu":
        return False
    if x.dtype == torch.bfloat16:
        return not has_bf16_products()
    return x.dtype == torch.float16 and not has_float16_products()


def _wide_product(x: Tensor, weight: Tensor) -> Tensor:
    """``x·Wᵀ`` computed in float32, of which a piece of the weight at a time is float32, too.

    The result is float32; that of a weight in pieces, which may be large, is in the type of ``x``
    where the pieces are rows of it.
    """
    wide, pieces = x.float(), math.ceil(weight.numel() / WIDE_AT_ONCE)
    if pieces == 1:
        return product(wide, weight.float())
    if weight.stride(1) == 1:
        out = x.new_empty(len(x), len(weight))
        for part, rows in zip(out.chunk(pieces, dim=1), weight.chunk(pieces), strict=True):
            part.copy_(product(wide, rows.float()))
        return out
    # A transposed weight: its columns lie together, so the sum is what is cut.
    out = wide.new_zeros(len(x), len(weight))
    parts = zip(wide.chunk(pieces, dim=1), weight.chunk(pieces, dim=1), strict=True)
    for x_part, columns in parts:
        out += product(x_part, columns.float())
    return out


_route = {"onednn_float32": False}


def use_onednn_float32(on: bool) -> None:
    """Send float32 products through oneDNN: on many AMD processors up to 2.5 times as fast as the
    library that torch uses by default (``numerics.choose_float32_route``)."""
    _route["onednn_float32"] = on
