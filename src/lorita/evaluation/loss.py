"""Loss on held-out rows, row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorita.data.batches import MicroBatch
from lorita.data.tokens import Example
from lorita.training.objective import LossSum

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class HeldOutLoss:
    """For each row the sum of its targets' losses, in nats, and the number of its targets."""

    sums: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Mean loss over all target tokens, in nats."""
        return sum(self.sums) / sum(self.counts)

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.mean, 700.0))


def held_out_loss(
    model: torch.nn.Module, examples: Sequence[Example], loss_sum: LossSum
) -> HeldOutLoss:
    """One row at a time: no padding, the least memory, and a figure for each row."""
    import torch

    model.eval()
    with torch.no_grad():
        sums = tuple(float(loss_sum(MicroBatch([example]))) for example in examples)
    return HeldOutLoss(sums, tuple(example.num_targets for example in examples))
