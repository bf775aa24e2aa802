"""The table of one file, and what its readers share: batches of rows and a list of mistakes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorita.data.origin import Part
from lorita.data.sources.table_cache import BATCH_BYTES, BATCH_ROWS

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

MOST_PROBLEMS = 5
"""Problems listed per file; a file with one wrong line often has thousands."""
MOST_LINES = 10**6
"""Rows of a text of which the lines are remembered, for messages."""
ONLY_HEADER = "there is a header and no row below it"


@dataclass(frozen=True)
class FileRows:
    """The table of a file. ``json_columns`` hold JSON as text; ``notes`` say how it was read."""

    table: Dataset
    part: Part
    json_columns: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


class TooManyProblems(Exception):
    """There are problems enough."""


class FileProblems(list[str]):
    """Problems of a file; it ends the reading when there are more than anybody reads."""

    def append(self, problem: str) -> None:
        super().append(problem)
        if len(self) > MOST_PROBLEMS:
            raise TooManyProblems


def in_batches(rows: Any) -> Iterator[list[Any]]:
    """Rows in lists that are not too large to be written at once."""
    batch: list[Any] = []
    size = 0
    for row in rows:
        batch.append(row)
        cells = row.values() if isinstance(row, dict) else row
        size += sum(len(cell) if isinstance(cell, (str, list)) else 8 for cell in cells)
        if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def text_batch(columns: Sequence[str], cells: Any) -> pa.RecordBatch:
    import pyarrow as pa

    arrays = [pa.array(list(column), type=pa.string()) for column in cells]
    return pa.record_batch(arrays, names=list(columns))
