"""Numbers, true, false, null and words for "missing" in cells of text: a rule for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lorita.data.rows import Pair
from tests.cases.reading import lines, place, read, refusal

WRITTEN: list[tuple[Any, str]] = [
    (True, "true"),
    (False, "false"),
    (0, "0"),
    (-7, "-7"),
    (2.5, "2.5"),
    (12345678901234567890123, "12345678901234567890123"),
]


@pytest.mark.parametrize(("value", "text"), WRITTEN)
def test_numbers_and_booleans_are_as_json_writes_them(
    value: Any, text: str, tmp_path: Path
) -> None:
    rows = ({"prompt": value, "completion": "x"}, {"prompt": "y", "completion": value})
    found = read(place(tmp_path, "a.jsonl", lines(*rows)))
    assert list(found.rows) == [Pair(text, "x"), Pair("y", text)]
    kind = "true or false" if isinstance(value, bool) else "numbers"
    for column in ("prompt", "completion"):
        assert f"{column!r} has 1 cell of {kind}, trained as JSON writes them" in found.notes


def test_the_same_from_parquet(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"prompt": ["a", "b"], "completion": [True, False]}), tmp_path / "a.parquet"
    )
    found = read(tmp_path / "a.parquet")
    assert list(found.rows) == [Pair("a", "true"), Pair("b", "false")]
    assert found.notes == (
        "'completion' has 2 cells of true or false, trained as JSON writes them",
    )


@pytest.mark.parametrize("column", ["prompt", "completion"])
def test_null_is_missing(column: str, tmp_path: Path) -> None:
    row = {"prompt": "a", "completion": "b", column: None}
    said = refusal(place(tmp_path, "a.jsonl", lines({"prompt": "a", "completion": "b"}, row)))
    assert f"row 2: the column {column!r} is empty" in said


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "null", "<NA>"])
def test_words_for_missing_are_text_and_said(word: str, tmp_path: Path) -> None:
    found = read(place(tmp_path, "a.csv", f"prompt,completion\na,{word}\nb,c\n"))
    assert found.rows[0] == Pair("a", word)
    assert f"'completion' has 1 cell with the word {word!r}" in found.understood


def test_nothing_is_said_about_ordinary_cells(tmp_path: Path) -> None:
    assert read(place(tmp_path, "a.csv", "prompt,completion\n1,2\nNA,true\n")).notes == ()
