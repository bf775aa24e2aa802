"""Problems in rows, collected and raised as one error that names files and rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from lorita.data.origin import Origin, rows_text
from lorita.errors import DataError

RowComplain: TypeAlias = Callable[[int, str, str], None]
"""Called with a row (counted from 0), what is wrong with it, and what to do about it."""


class Problems:
    """Problems in rows: each kind once, with the rows that have it.

    ``found`` maps each problem to its rows, counted from 0; ``hints`` to what to do about it.
    ``left_out`` maps fields that a chat template leaves out on purpose to their rows: no problem.
    """

    def __init__(self, origin: Origin | str) -> None:
        self.origin = origin
        self.found: dict[str, list[int]] = {}
        self.hints: dict[str, str] = {}
        self.left_out: dict[str, list[int]] = {}

    def note(self, row: int, fields: Sequence[str]) -> None:
        """Note fields of ``row`` that the chat template leaves out on purpose."""
        for name in fields:
            self.left_out.setdefault(name, []).append(row)

    def add(self, row: int, what: str, hint: str = "") -> None:
        """Add a problem of ``row``, counted from 0; ``what`` follows the row number in messages."""
        self.found.setdefault(what, []).append(row)
        if hint:
            self.hints[what] = hint

    @property
    def rows(self) -> set[int]:
        """All rows with at least one problem."""
        return {row for rows in self.found.values() for row in rows}

    def raise_any(self, hint: str | None = None) -> None:
        """Raise a ``DataError`` with one line per problem and file, if there are any problems.

        ``hint`` replaces the hints of the problems.
        """
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
