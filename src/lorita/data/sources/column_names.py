"""Bounds on the columns of a table, checked before its rows are taken apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from lorita.data.sources.open_file import FileProblem

MOST_COLUMNS = 16_384
"""Columns of a table, as many as a spreadsheet can have. More are values where names should be."""
MOST_EMPTY, MANY_CELLS = 100, 10_000_000
"""Rows with keys of their own make a table of almost only empty cells. It is refused beyond both:
this many cells for each one that is given, and this many in all."""
MOST_NAMED = 6
"""Column names in a message; the others are counted."""


def doubled(names: Iterable[str]) -> list[str]:
    """The names that occur more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def named(names: Sequence[str]) -> str:
    """The names in a message, the first few of many."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def check_columns(where: str, names: Sequence[str]) -> None:
    """Raise ``FileProblem`` for too many columns, or two of the same name; ``where`` they are."""
    check_count(where, len(names))
    if twice := doubled(names):
        raise FileProblem(f"{where}: duplicate column names: {named(twice)}")


def check_count(where: str, columns: int) -> None:
    """Raise ``FileProblem`` for more than ``MOST_COLUMNS``."""
    if columns > MOST_COLUMNS:
        raise FileProblem(
            f"{where}: more than {MOST_COLUMNS:,} columns; these are values, not the names of "
            "columns. Give each its own row"
        )


def check_filled(rows: int, columns: int, cells: int) -> None:
    """Raise ``FileProblem`` where almost all cells of the table would be empty."""
    if rows * columns > max(MOST_EMPTY * cells, MANY_CELLS):
        raise FileProblem(
            f"its {rows:,} rows have {columns:,} different keys, most of them in less than one row "
            f"of {MOST_EMPTY}; these are values, not the names of columns"
        )
