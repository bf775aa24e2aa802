"""A table in a file is read as ``datasets`` reads it, without ``datasets`` where that is enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset

from lorita.data.sources.arrow_table import MOST_RUNS, ArrowTable

ROWS = 3 * MOST_RUNS


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "table.arrow"
    batches = [
        pa.record_batch(
            {
                "text": [f"row {i}" if i % 5 else None for i in part],
                "ids": [list(range(i % 4)) for i in part],
            }
        )
        for part in (range(ROWS // 2), range(ROWS // 2, ROWS))
    ]
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_stream(out, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return path


@pytest.mark.parametrize(
    "key",
    [
        range(3, 7),
        range(ROWS),
        range(0),
        [5],
        [],
        [5, 6, 7, 2, 2, 9],
        list(range(ROWS)),
        list(range(0, ROWS, 2)),  # more stretches than are read one by one
        range(10, 0, -2),
        [-1, 0],
        7,
        "text",
        slice(2, 5),
    ],
)
def test_as_datasets_reads_it(file: Path, key: Any) -> None:
    ours, theirs = ArrowTable(file), Dataset.from_file(str(file))
    mine, other = ours[key], theirs[key]
    assert (list(mine) == list(other)) if key == "text" else (mine == other)
    assert ours.select_columns(["ids"])[range(2)] == theirs.select_columns(["ids"])[range(2)]


def test_the_rest(file: Path) -> None:
    ours, theirs = ArrowTable(file), Dataset.from_file(str(file))
    assert len(ours) == len(theirs) and ours.column_names == theirs.column_names
    assert list(ours) == list(theirs)
    assert ours.select([3, 1]).to_dict() == theirs.select([3, 1]).to_dict()
    with pytest.raises(IndexError):
        ours[[ROWS]]
