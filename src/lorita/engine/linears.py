"""Plain linear layers: which they are, and how they store their weight."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lorita.engine.families import LINEAR_CLASSES


def is_plain_linear(module: nn.Module) -> bool:
    """Whether this is a linear layer and nothing else, not an adapted one for example."""
    from transformers.pytorch_utils import Conv1D

    return type(module) in (nn.Linear, Conv1D) or type(module).__name__ in LINEAR_CLASSES


def is_transposed(linear: nn.Module) -> bool:
    """Whether a plain linear layer keeps its weight as [inputs, outputs]: ``Conv1D`` does."""
    return hasattr(linear, "nf")


def weight_of(linear: Any) -> Tensor:
    """The weight of a plain linear layer as [outputs, inputs], a view of the layer's own."""
    weight: Tensor = linear.weight
    return weight.t() if is_transposed(linear) else weight
