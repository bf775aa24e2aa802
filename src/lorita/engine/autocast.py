"""Autocast to the number format of a model's weights."""

from __future__ import annotations

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


def under_autocast(x: Tensor) -> bool:
    """Whether autocast is on for the device of ``x``."""
    return bool(torch.is_autocast_enabled(x.device.type))
