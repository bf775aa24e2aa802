"""Mistakes in rows, gathered and raised as one error that names file and row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from lorita.data.origin import Origin, rows_text
from lorita.errors import DataError

RowComplain: TypeAlias = Callable[[int, str, str], None]
"""Hears of a row (counted from 0) what is wrong with it and what to do about it."""


class Problems:
    """Mistakes in rows: each kind of mistake once, with the places of its rows.

    ``found`` is what is wrong with which rows, counted from 0; ``hints`` what to do about it.
    """

    def __init__(self, origin: Origin | str) -> None:
        self.origin = origin
        self.found: dict[str, list[int]] = {}
        self.hints: dict[str, str] = {}

    def add(self, row: int, what: str, hint: str = "") -> None:
        """``row`` is counted from 0; ``what`` follows the row numbers in the message."""
        self.found.setdefault(what, []).append(row)
        if hint:
            self.hints[what] = hint

    @property
    def rows(self) -> set[int]:
        """All rows that something is wrong with."""
        return {row for rows in self.found.values() for row in rows}

    def raise_any(self, hint: str | None = None) -> None:
        """``DataError`` with a line for each kind of mistake and each file, if there is any."""
        if self.found:
            lines = [
                f"{place}: {what}"
                for what, rows in self.found.items()
                for place in _places(self.origin, rows)
            ]
            raise DataError(
                lines, hint=hint or "\n".join(dict.fromkeys(self.hints.values())) or None
            )


def _places(origin: Origin | str, rows: Sequence[int]) -> list[str]:
    if isinstance(origin, Origin):
        return origin.places(rows)
    return [f"{origin}: {rows_text([row + 1 for row in rows])}"]
