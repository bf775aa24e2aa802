"""Tables as streams of record batches, none of them large.

Readers produce them, the table cache writes them, and stored rows are read back in portions of
the same size.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

TableBatches: TypeAlias = "Generator[pa.RecordBatch, None, dict[str, Any]]"
"""Batches that share one schema; the generator returns the notes to store with the table."""

BATCH_ROWS, BATCH_BYTES = 1000, 2**24
"""The most rows, and roughly the most bytes, that are read or written at once."""


def in_batches(rows: Any) -> Iterator[list[Any]]:
    """Group rows (lists or dicts of cells) into lists small enough to write at once."""
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
    """A record batch of string columns; ``cells`` holds one sequence of texts per column."""
    import pyarrow as pa

    arrays = []
    for column in cells:
        builder = pa.lib.StringBuilder()  # pa.array would import pandas first
        builder.append_values(list(column))
        arrays.append(builder.finish())
    return pa.record_batch(arrays, names=list(columns))
