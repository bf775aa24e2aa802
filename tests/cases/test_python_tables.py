"""Rows given in Python: the tables of other libraries are what their rows are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict

import lorita
from lorita.errors import UserError
from tests.cases.reading import TURNS

ROWS = [{"prompt": f"What is {i}?", "completion": f"It is {i}."} for i in range(4)]
FRAME = pd.DataFrame(ROWS)


class Polars:
    """As much of a polars DataFrame as lorita uses."""

    columns = ("prompt", "completion")

    def to_arrow(self) -> pa.Table:
        return pa.Table.from_pylist(ROWS)


GIVEN: dict[str, Any] = {
    "pandas": FRAME,
    "pandas with an index": FRAME.set_index(pd.Index([7, 8, 9, 10])),
    "polars": Polars(),
    "arrow": pa.Table.from_pylist(ROWS),
    "columns": FRAME.to_dict("list"),
    "splits": DatasetDict({"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:1])}),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_tables(kind: str, llama: Path) -> None:
    expected = lorita.preview(model=str(llama), data=ROWS)
    found = lorita.preview(model=str(llama), data=GIVEN[kind])
    assert (found.rows, found.columns, found.not_used) == (4, expected.columns, [])
    assert found.first_rows == expected.first_rows


def test_chats(llama: Path) -> None:
    expected = lorita.preview(model=str(llama), data=[{"messages": TURNS}] * 2)
    frame = pd.DataFrame({"messages": [np.array(TURNS, dtype=object)] * 2})
    for given in (frame, [TURNS, TURNS], pd.DataFrame({"messages": [str(TURNS)] * 2})):
        assert lorita.preview(model=str(llama), data=given).first_rows == expected.first_rows


def test_missing_cells_of_pandas(llama: Path) -> None:
    frame = pd.DataFrame({"prompt": ["a", "b", None], "completion": [1.5, np.nan, 2]})
    found = lorita.preview(model=str(llama), data=frame)
    assert {str(problem) for problem in found.problems if problem.stops} == {
        "row 2: the column 'completion' is empty",
        "row 3: the column 'prompt' is empty",
    }
    assert "'completion' has 2 cells of numbers, trained as JSON writes them" in found.notes


REFUSED: dict[str, tuple[Any, str]] = {
    "a stream": (Dataset.from_list(ROWS).to_iterable_dataset(), "of type IterableDataset"),
    "no such split": (DatasetDict({"test": Dataset.from_list(ROWS)}), "no split 'train'"),
    "uneven columns": ({"prompt": ["a"], "completion": ["b", "c"]}, "do not form a table"),
    "a row that is none": ([*ROWS, "x"], "row 5 is a str; expected a dict"),
    "mixed cells": (pd.DataFrame({"text": ["a", 1]}), "do not form a table"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind: str, llama: Path) -> None:
    given, said = REFUSED[kind]
    with pytest.raises(UserError, match=said):
        lorita.preview(model=str(llama), data=given)
