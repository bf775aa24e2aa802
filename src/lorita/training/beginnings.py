"""How much of a run's rows is the same at their beginning, and computed once per micro-batch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from lorita.data.batches import MicroBatch, iterate_steps, micro_batches, steps_per_epoch
from lorita.data.shared_beginnings import find_groups

if TYPE_CHECKING:
    from lorita.data.examples import Example
    from lorita.training.loop import Pace

LOOKED_AT = 128
"""Rows of the first steps that stand for all others."""


@dataclass(frozen=True)
class Beginnings:
    """What rows of the same step begin with in common, in tokens: typically, and at most.

    ``steps`` are the rows that were looked at.
    """

    typical: int
    longest: int
    steps: Sequence[Sequence[Example]]

    def computed(self, token_budget: int) -> float:
        """The fraction of the tokens that is computed, in micro-batches of this many tokens."""
        batches = self._batches(token_budget)
        return sum(b.computed_tokens for b in batches) / sum(b.num_tokens for b in batches)

    def most_at_once(self, token_budget: int) -> int:
        """The most tokens that one micro-batch computes."""
        return max(batch.computed_tokens for batch in self._batches(token_budget))

    def line(self, token_budget: int) -> str:
        """A sentence about it."""
        up_to = "" if self.longest == self.typical else f", some up to {self.longest:,}"
        return (
            f"Rows share a beginning of {self.typical:,} tokens{up_to}: it is computed once per "
            f"micro-batch ({self.computed(token_budget):.0%} of the tokens are computed)"
        )

    def _batches(self, token_budget: int) -> list[MicroBatch]:
        return [b for rows in self.steps for b in micro_batches(rows, token_budget, sharing=True)]


def beginnings_of(train: Sequence[Example], pace: Pace, processes: int = 1) -> Beginnings | None:
    """What the rows of the first steps share; None if nothing.

    With several ``processes``, rows that the first one computes.
    """
    numbers = iterate_steps(
        range(len(train)), rows_per_step=pace.rows_per_step, seed=pace.seed, windows=pace.windows
    )
    most = min(pace.max_steps, steps_per_epoch(len(pace.windows or train), pace.rows_per_step))
    steps: list[list[Example]] = []
    for step in islice(numbers, most):
        steps.append([train[i] for i in step[::processes]])
        if sum(map(len, steps)) >= LOOKED_AT:
            break
    groups = [group for rows in steps for group in find_groups(rows) if group.shared]
    lengths = [group.shared for group in groups for _ in group.rows]
    return Beginnings(statistics.median_low(lengths), max(lengths), steps) if lengths else None
