"""Rows that stay on disk in their table and are read on demand.

Data larger than memory can thus be checked, tokenised and sampled like a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, overload

from lorita.data.row_errors import RowComplain
from lorita.data.rows import Row
from lorita.data.sources.source import Source
from lorita.data.sources.table_batches import BATCH_BYTES, BATCH_ROWS

Cells: TypeAlias = Mapping[str, list[Any]]
"""Some rows of a table, column by column."""
ReadCells: TypeAlias = Callable[[Cells, RowComplain], list[Row]]
"""Turns cells into as many rows; problems are reported with the row's index in the cells."""


def _accept(row: int, what: str, hint: str) -> None:
    """Ignore a problem: the rows were checked before, and it was reported then."""


class StoredRows(Sequence[Row]):
    """The rows of a source, or those with the given ``numbers``, as a sequence.

    Iterating, ``select`` and slices read in batches; indexing a single row costs one read.
    """

    def __init__(self, source: Source, read: ReadCells, numbers: Sequence[int] | None = None):
        self._source, self._read = source, read
        self.numbers: Sequence[int] = range(len(source.rows)) if numbers is None else numbers
        size = source.rows.data.nbytes // max(len(source.rows), 1) + 1
        self.batch_rows = max(1, min(BATCH_ROWS, BATCH_BYTES // size))

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> StoredRows: ...
    def __getitem__(self, at: int | slice) -> Row | StoredRows:
        if isinstance(at, slice):
            return StoredRows(self._source, self._read, self.numbers[at])
        return self._read(self._source.cells([self.numbers[at]]), _accept)[0]

    def select(self, places: Sequence[int]) -> StoredRows:
        """The rows at these indices, in this order, still on disk."""
        return StoredRows(self._source, self._read, [self.numbers[place] for place in places])

    def batches(self, complain: RowComplain = _accept) -> Iterator[list[Row]]:
        """All rows in batches; problems go to ``complain`` with the row's number in the data."""
        for start in range(0, len(self), self.batch_rows):
            numbers = self.numbers[start : start + self.batch_rows]

            def tell(row: int, what: str, hint: str, numbers: Sequence[int] = numbers) -> None:
                complain(numbers[row], what, hint)

            yield self._read(self._source.cells(numbers), tell)

    def __iter__(self) -> Iterator[Row]:
        for batch in self.batches():
            yield from batch


def select_rows(rows: Sequence[Row], places: Sequence[int]) -> Sequence[Row]:
    """The rows at these indices; stored rows stay on disk."""
    if isinstance(rows, StoredRows):
        return rows.select(places)
    return [rows[place] for place in places]


def row_batches(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """All rows in batches that fit in memory."""
    if isinstance(rows, StoredRows):
        yield from rows.batches()
        return
    for start in range(0, len(rows), BATCH_ROWS):
        yield rows[start : start + BATCH_ROWS]
