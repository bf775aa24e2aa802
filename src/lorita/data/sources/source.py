"""A table of rows with its origin: what every kind of source becomes before formats are read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lorita.data.origin import Origin
from lorita.errors import DataError
from lorita.storage.reading import one_message

if TYPE_CHECKING:
    from datasets import Dataset

    from lorita.data.sources.arrow_table import ArrowTable

SAMPLE = 20
"""Rows looked at to tell what a column holds."""


@dataclass(frozen=True)
class Source:
    """A table of rows and where they come from. ``json_columns`` hold JSON as text."""

    rows: Dataset | ArrowTable
    origin: Origin
    json_columns: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """The column names, in the order of the table."""
        return list(self.rows.column_names)

    @cached_property
    def sample(self) -> dict[str, list[Any]]:
        """The first ``SAMPLE`` rows, column by column."""
        return self.cells(range(min(SAMPLE, len(self.rows))))

    def cells(self, numbers: Sequence[int]) -> dict[str, list[Any]]:
        """The rows with these numbers, in this order, column by column; JSON cells decoded.

        ``DataError`` if the table was damaged in a way that only shows when rows are read.
        """
        asked = numbers if isinstance(numbers, range) else list(numbers)
        with one_message(f"{self.origin}: rows cannot be read; the file is damaged", DataError):
            cells: dict[str, list[Any]] = dict(self.rows[asked])
            for name in self.json_columns & cells.keys():
                cells[name] = [None if cell is None else json.loads(cell) for cell in cells[name]]
            return cells

    def only(self, columns: Sequence[str]) -> Source:
        """The same rows with only these columns, so that the others are never read."""
        return replace(self, rows=self.rows.select_columns(list(dict.fromkeys(columns))))
