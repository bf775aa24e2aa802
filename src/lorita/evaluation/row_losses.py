"""The loss of each row of a set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HeldOutLoss:
    """For each row, the sum of its target tokens' losses (nats) and their number."""

    sums: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Mean loss over all target tokens, in nats."""
        return sum(self.sums) / sum(self.counts)
