"""Where rows come from, so that messages can name the file and the row or line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MOST_ROWS = 5
"""Row numbers shown in a message; the rest are counted."""
MOST_NAMES = 3
"""Files named in a message; the rest are counted."""


@dataclass(frozen=True)
class Part:
    """One file or data set. ``lines`` are the line numbers of its rows, if rows are lines."""

    name: str
    rows: int
    lines: Sequence[int] | None = None

    def place(self, rows: Sequence[int]) -> str:
        """These rows of the part, counted from 0, as text: ``a.csv: rows 2, 3``."""
        if self.lines is None:
            return f"{self.name}: {rows_text([row + 1 for row in rows])}"
        return f"{self.name}: {rows_text([self.lines[row] for row in rows], 'line')}"


@dataclass(frozen=True)
class Origin:
    """The parts of a data set in order. ``str()`` names them."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        names = [part.name for part in self.parts]
        more = len(names) - MOST_NAMES
        return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")

    def places(self, rows: Sequence[int]) -> list[str]:
        """Where these rows are: one phrase per part. Rows are counted from 0 across all parts."""
        phrases, start = [], 0
        for part in self.parts:
            inside = [row - start for row in rows if start <= row < start + part.rows]
            phrases += [part.place(inside)] if inside else []
            start += part.rows
        return phrases


def rows_text(rows: Sequence[int], word: str = "row", most: int = MOST_ROWS) -> str:
    """``row 3`` or ``rows 3, 7 and 12 more``; the numbers are shown as given."""
    if len(rows) == 1:
        return f"{word} {rows[0]}"
    shown = ", ".join(str(row) for row in rows[:most])
    return f"{word}s {shown}" + (f" and {len(rows) - most} more" if len(rows) > most else "")
