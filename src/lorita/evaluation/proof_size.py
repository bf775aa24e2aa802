"""How many rows and passages the proof looks at: its price against that of the training.

The price of a row is that of its tokens, so the choice depends on the data and the schedule alone:
a run that is repeated is measured on the same rows, on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from lorita.data.examples import Example, count_tokens
from lorita.training.forecast import EVALUATION_COST

T = TypeVar("T")

SHARE = 0.25
"""Of the training time; two models are measured."""
LEAST_HELD_OUT, LEAST_GENERAL, LEAST_TRAINING = 20, 24, 12
"""Below these an interval says little, whatever it costs."""
PARTS = (1.0, 0.75, 0.5, 0.35, 0.25, 0.0)


@dataclass(frozen=True)
class ProofRows:
    """The rows to measure on, of those that could be."""

    held_out: Sequence[Example]
    general: Sequence[Example]
    training: Sequence[Example]

    def line(self, whole: ProofRows) -> str | None:
        """What is measured, where that is not everything."""
        parts = [
            f"{len(mine)} of {len(all_of_them)} {what}"
            for mine, all_of_them, what in (
                (self.held_out, whole.held_out, "held-out rows"),
                (self.general, whole.general, "general passages"),
                (self.training, whole.training, "training rows"),
            )
            if len(mine) < len(all_of_them)
        ]
        if not parts:
            return None
        return (
            f"Measuring on {', '.join(parts)}, to keep the proof short beside the training; "
            "lorita evaluate measures on all"
        )


def choose_rows(whole: ProofRows, trained_tokens: int) -> ProofRows:
    """As many rows as ``SHARE`` of the training pays for, and never fewer than the least.

    ``trained_tokens`` are those of all steps.
    """
    budget = SHARE * trained_tokens / (2 * EVALUATION_COST)
    for part in PARTS:
        rows = ProofRows(
            _spread(whole.held_out, part, LEAST_HELD_OUT),
            _spread(whole.general, part, LEAST_GENERAL),
            _spread(whole.training, part, LEAST_TRAINING),
        )
        if sum(map(count_tokens, (rows.held_out, rows.general, rows.training))) <= budget:
            break
    return rows


def _spread(rows: Sequence[T], part: float, least: int) -> list[T]:
    """``part`` of the rows, at least ``least``, evenly spread over them."""
    count = min(len(rows), max(round(part * len(rows)), least))
    return [rows[number * len(rows) // count] for number in range(count)]
