"""Autocast: to the number format of a model's weights, and products in the format it asks for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


def autocast_for(module: nn.Module, device: torch.device) -> AbstractContextManager[Any]:
    """In this context, products on ``device`` run in the 16-bit format of the module's weights.

    Adapters and trained biases are float32 on a narrower base model: autocast lets their products
    be computed together. Weights of any other format need none, and get none. The format is that
    of the module's first parameter.
    """
    dtype = next(module.parameters()).dtype
    if dtype not in (torch.bfloat16, torch.float16):
        return nullcontext()
    mixed: AbstractContextManager[Any] = torch.autocast(device.type, dtype=dtype)
    return mixed


def without_autocast(module: nn.Module) -> AbstractContextManager[Any]:
    """In this context, products of the module run in the formats of its own tensors."""
    device = next(module.parameters()).device
    off: AbstractContextManager[Any] = torch.autocast(device.type, enabled=False)
    return off


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """The number format in which autocast computes products of ``x``; None where it is off.

    As in torch, float64 stays float64.
    """
    if x.dtype == torch.float64 or not torch.is_autocast_enabled(x.device.type):
        return None
    return torch.get_autocast_dtype(x.device.type)


def for_product(x: Tensor) -> Tensor:
    """``x`` in the number format in which autocast computes products; ``x`` where it is off."""
    return x.to(autocast_dtype(x) or x.dtype)


def own_formats(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function's backward: its products run in the formats of its own tensors.

    Autocast may still be on, or on again, when ``backward()`` is called.
    """

    @functools.wraps(backward)
    def run(ctx: Any, *grads: Tensor) -> Any:
        with torch.autocast(grads[0].device.type, enabled=False):
            return backward(ctx, *grads)

    return run


class NarrowCopies:
    """Copies of frozen weights in the number format of autocast.

    Autocast itself converts a frozen weight anew in every call, and keeps the copy until the
    backward pass is through: kept for good, it takes no more memory than at that moment.
    """

    def __init__(self) -> None:
        self._copies: dict[int, tuple[Tensor, int, Tensor]] = {}

    def of(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """``weight`` in ``dtype``, without a gradient; converted again once it has changed."""
        if weight.dtype == dtype:
            return weight.detach()
        known = self._copies.get(id(weight))
        if known is not None:
            original, version, copy = known
            if original is weight and version == weight._version and copy.dtype == dtype:
                return copy
        copy = weight.detach().to(dtype)
        self._copies[id(weight)] = (weight, weight._version, copy)
        return copy
