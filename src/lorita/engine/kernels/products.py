"""Products with frozen weights, by the library that is fastest for them; without a gradient."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class RoundedWeight(Protocol):
    """A frozen weight [O, I] in a format of its own, which computes its products itself."""

    def forward(self, x_TI: Tensor) -> Tensor:
        """The product ``x·Wᵀ``, [T, O], in the type of ``x``."""
        ...

    def backward(self, grad_TO: Tensor) -> Tensor:
        """The product ``grad·W``, [T, I], in the type of ``grad``."""
        ...


def product(x: Tensor, weight: Tensor | RoundedWeight, bias: Tensor | None = None) -> Tensor:
    """``x·Wᵀ + bias`` for x [T, I], weight [O, I], either may be a transposed view; no gradient.

    float32 goes through oneDNN if ``use_onednn_float32`` was called; bf16 goes there in any case.
    """
    if not isinstance(weight, Tensor):
        out = weight.forward(x)
        return out if bias is None else out.add_(bias)
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


_route = {"onednn_float32": False}


def use_onednn_float32(on: bool) -> None:
    """Send float32 products through oneDNN: on many AMD processors up to 2.5 times as fast as the
    library that torch uses by default (``numerics.choose_float32_route``)."""
    _route["onednn_float32"] = on
