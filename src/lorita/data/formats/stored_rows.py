"""Rows that stay in their table on disk and are read when they are asked for.

So that data larger than memory can be looked through, tokenised and sampled like a list.
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
"""Cells to as many rows; what is wrong is told with the row's place in the cells."""


def _accept(row: int, what: str, hint: str) -> None:
    """Rows were looked through before; what is wrong has been told then."""


class StoredRows(Sequence[Row]):
    """The rows of a source, or those with the given ``numbers``.

    Going through them, or taking many with ``select`` or a slice, reads batches; a single row
    costs a read of its own.
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
        """The rows at these places, in this order."""
        return StoredRows(self._source, self._read, [self.numbers[place] for place in places])

    def batches(self, complain: RowComplain = _accept) -> Iterator[list[Row]]:
        """All rows in portions; ``complain`` hears what is wrong, with the row's number."""
        for start in range(0, len(self), self.batch_rows):
            numbers = self.numbers[start : start + self.batch_rows]

            def tell(row: int, what: str, hint: str, numbers: Sequence[int] = numbers) -> None:
                complain(numbers[row], what, hint)

            yield self._read(self._source.cells(numbers), tell)

    def __iter__(self) -> Iterator[Row]:
        for batch in self.batches():
            yield from batch


def select_rows(rows: Sequence[Row], places: Sequence[int]) -> Sequence[Row]:
    """The rows at these places; stored ones stay where they are."""
    if isinstance(rows, StoredRows):
        return rows.select(places)
    return [rows[place] for place in places]


def row_batches(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """All rows in portions that fit into memory."""
    if isinstance(rows, StoredRows):
        yield from rows.batches()
        return
    for start in range(0, len(rows), BATCH_ROWS):
        yield rows[start : start + BATCH_ROWS]
