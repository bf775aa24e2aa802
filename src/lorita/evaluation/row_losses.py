"""Loss on rows, row by row."""

from __future__ import annotations

import math
from dataclasses import dataclass


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
