"""Where rows come from, so that a message can name the file and the place in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MOST_ROWS = 5
"""Row numbers that a message names; the others are counted."""
MOST_NAMES = 3
"""Files that are named; the others are counted."""


@dataclass(frozen=True)
class Part:
    """One file or data set. ``lines`` are the lines of its rows, where a row is a line."""

    name: str
    rows: int
    lines: Sequence[int] | None = None

    def place(self, rows: Sequence[int]) -> str:
        """These rows of the part, counted from 0, in words."""
        if self.lines is None:
            return f"{self.name}: {rows_text([row + 1 for row in rows])}"
        return f"{self.name}: {rows_text([self.lines[row] for row in rows], 'line')}"


@dataclass(frozen=True)
class Origin:
    """The parts of some data in their order. ``str()`` names them."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        names = [part.name for part in self.parts]
        more = len(names) - MOST_NAMES
        return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")

    def places(self, rows: Sequence[int]) -> list[str]:
        """Where these rows are, counted from 0 over all parts: a phrase for each part."""
        phrases, start = [], 0
        for part in self.parts:
            inside = [row - start for row in rows if start <= row < start + part.rows]
            phrases += [part.place(inside)] if inside else []
            start += part.rows
        return phrases


def rows_text(rows: Sequence[int], word: str = "row", most: int = MOST_ROWS) -> str:
    """``row 3`` or ``rows 3, 7 and 12 more``; the numbers are shown as they are."""
    if len(rows) == 1:
        return f"{word} {rows[0]}"
    shown = ", ".join(str(row) for row in rows[:most])
    return f"{word}s {shown}" + (f" and {len(rows) - most} more" if len(rows) > most else "")
