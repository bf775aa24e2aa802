"""Examples on disk: the same as in memory, read without libraries that take seconds to import."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lorita.data.examples import IGNORE, Example, StoredExamples, example_batch, example_schema
from lorita.data.sources.arrow_table import ArrowTable
from tests import tiny
from tests.command import with_imports

EXAMPLES = [
    Example([5, 6, 7], [IGNORE, 6, 7], 3),
    Example([8], [8], 4),
    Example([], [], 5),
    Example(list(range(2000)), list(range(2000)), 6),
    Example([2**31 - 1, 0], [IGNORE, IGNORE], 7),
]


def by_arrow(examples: list[Example]) -> pa.RecordBatch:
    labels = [None if e.labels == e.input_ids else e.labels for e in examples]
    columns = [[e.input_ids for e in examples], labels, [e.row for e in examples]]
    schema = example_schema()
    arrays = [pa.array(c, type=f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def stored(path: Path, *portions: list[Example]) -> ArrowTable:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, example_schema()) as out:
        for portion in portions:
            out.write_batch(example_batch(portion))
    return ArrowTable(path)


@pytest.mark.parametrize("count", [0, 1, 2, 5, 45])
def test_a_batch_is_what_arrow_makes_of_lists(count: int) -> None:
    examples = (EXAMPLES * 9)[:count]
    made = example_batch(examples)
    made.validate(full=True)
    assert made.equals(by_arrow(examples))


def test_stored_examples_are_those_that_were_stored(tmp_path: Path) -> None:
    examples = EXAMPLES * 70
    portions = [examples[first : first + 100] for first in range(0, len(examples), 100)]
    found = StoredExamples(stored(tmp_path / "t.arrow", [], *portions))
    assert list(found) == examples
    assert [found[i] for i in (0, 349, -1, 7)] == [examples[i] for i in (0, 349, -1, 7)]
    with pytest.raises(IndexError):
        found[350]


def test_slices_of_a_table_are_those_of_its_rows(tmp_path: Path) -> None:
    table = stored(tmp_path / "t.arrow", EXAMPLES)
    for key in (slice(1, 3), slice(None), slice(-2, None), slice(4, 0, -2), slice(3, 99)):
        assert table[key]["row"] == [example.row for example in EXAMPLES][key]
    assert table[2:2] == {"input_ids": [], "labels": [], "row": []}


def test_a_training_imports_no_library_for_large_data(llama: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("\n".join(["text", *tiny.make_texts(30)]))
    _, imported = with_imports(
        "train", data, "--model", llama, "--max-steps", "2", "--max-new-tokens", "2",
        "--output-dir", tmp_path / "run",
    )  # fmt: skip
    assert "torch" in imported and not {"datasets", "pandas"} & imported
