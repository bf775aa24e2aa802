"""Intervals and shares as places on a line, which the page draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorita.evaluation.intervals import Change, share_bounds

if TYPE_CHECKING:
    from lorita.evaluation.proof import Memorised, Proof

ROOM = 0.06
"""Of the line's length, left free at both ends."""


@dataclass(frozen=True)
class Interval:
    """A value with its interval; places are percent of the line, from its left end.

    ``verdict`` is ``good``, ``bad`` or ``open``.
    """

    name: str
    text: str
    verdict: str
    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Line:
    """Intervals on one line. ``zero`` is the place of no change; None for shares, 0 to 100 %."""

    intervals: tuple[Interval, ...]
    zero: float | None


def changes_line(proof: Proof) -> Line | None:
    """How the losses changed, all on one line; None if no rows were measured."""
    learned, forgot = proof.learned, proof.forgot
    named: list[tuple[str, Change]] = []
    if learned.held_out is not None:
        named.append(("held-out rows", learned.held_out))
    if learned.training is not None:
        named.append(("training rows", learned.training))
    named.append(("general passages", forgot.change))
    named = [(name, change) for name, change in named if _is_finite(change)]
    if not named:
        return None
    low = min(0.0, *(change.low for _, change in named))
    high = max(0.0, *(change.high for _, change in named))
    width = (high - low) or 1.0

    def place(value: float) -> float:
        inside = min(max((value - low) / width, 0.0), 1.0)
        return round(100 * (ROOM + (1 - 2 * ROOM) * inside), 2)

    return Line(
        tuple(
            Interval(
                name,
                f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})",
                {-1: "good", 0: "open", 1: "bad"}[change.sign],
                place(change.low),
                place(change.value),
                place(change.high),
            )
            for name, change in named
        ),
        place(0.0),
    )


def _is_finite(change: Change) -> bool:
    return all(map(math.isfinite, (change.value, change.low, change.high)))


def shares_line(memorised: Memorised | None) -> Line | None:
    """What was completed verbatim and what was copied, as shares; None if it was not tested."""
    if memorised is None:
        return None
    found: Sequence[tuple[str, int, int]] = [
        ("rows completed verbatim, base", memorised.extracted_base, memorised.rows),
        ("rows completed verbatim, tuned", memorised.extracted, memorised.rows),
        ("sequences copied, base", memorised.copied_base, memorised.written_base),
        ("sequences copied, tuned", memorised.copied, memorised.written),
    ]
    shares = tuple(_share(name, part, whole) for name, part, whole in found if whole > 0)
    return Line(shares, None) if shares else None


def _share(name: str, part: int, whole: int) -> Interval:
    low, high = share_bounds(part, whole)
    return Interval(
        name, f"{part} of {whole} ({100 * low:.0f} to {100 * high:.0f} %)", "open",
        round(100 * low, 2), round(100 * part / whole, 2), round(100 * high, 2),
    )  # fmt: skip
