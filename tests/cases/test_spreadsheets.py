"""Spreadsheets are read as they look; where there is a choice, the user is asked."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from lorita.data.rows import Pair
from tests.cases.reading import place, read, refusal, rows_of
from tests.cases.workbooks import Rows, write_ods, write_xlsx

HEADER = ["prompt", "completion", None]
ROWS: Rows = [HEADER, ["Hi", "two\nlines"], [None, None], [" spaced ", 3], [2.5, True]]
PAIRS = [Pair("Hi", "two\nlines"), Pair(" spaced ", "3"), Pair("2.5", "true")]


@pytest.mark.parametrize("above", [0, 1, 2])
def test_a_workbook(above: int, tmp_path: Path) -> None:
    rows = [[]] * above + list(ROWS)
    found = read(write_xlsx(tmp_path / "a.xlsx", {"Empty": [], "Rows": rows}))
    assert list(found.rows) == PAIRS
    assert "the sheet 'Rows'" in found.understood


def test_open_document(tmp_path: Path) -> None:
    file = write_ods(tmp_path / "a.ods", {"One": [HEADER[:2], ["ñ", 7], ["b", "c"]], "Two": []})
    assert rows_of(file) == [Pair("ñ", "7"), Pair("b", "c")]


def test_several_sheets(tmp_path: Path) -> None:
    sheets = {"Old": ROWS[:2], "New": ROWS, "Notes": [["by Ada"]]}
    file = write_xlsx(tmp_path / "a.xlsx", sheets)
    assert "several sheets have cells (Old, New, Notes); name one with --data-name" in refusal(file)
    found = read(file, name="New")
    assert list(found.rows) == PAIRS
    assert "the sheet 'New' (not read: Old, Notes)" in found.understood
    assert "no sheet 'x' with cells; it has Old, New, Notes" in refusal(file, name="x")
    hidden = write_xlsx(tmp_path / "b.xlsx", sheets, hidden=["Old", "Notes"])
    assert rows_of(hidden) == PAIRS


SHEETS: dict[str, tuple[Rows, str]] = {
    "wide": ([HEADER[:2], ["a", "b"], ["a", "b", "c"]], "row 3: more cells than the header has"),
    "header only": ([HEADER], "has a header but no rows"),
    "no cells": ([[]], "no cells in its visible sheets"),
    "a column twice": ([["a", "a"], ["b", "c"]], "row 1: duplicate column names: a"),
    "a missing answer": ([HEADER, ["a", "b"], ["c", None]], "row 2: the column 'completion' is em"),
}


@pytest.mark.parametrize("case", SHEETS)
def test_refused_sheets(case: str, tmp_path: Path) -> None:
    rows, said = SHEETS[case]
    assert said in refusal(write_xlsx(tmp_path / "a.xlsx", {"Rows": rows}))


FILES = {
    "a.xlsx": "cannot be read as a spreadsheet",
    "a.xls": "cannot be read as a spreadsheet",
    "a.numbers": "a Numbers document; export the table as CSV",
    "a.gsheet": "a link to Google Sheets",
    "a.docx": "a Word document; save it as plain text",
    "a.pdf": "a PDF; extract its text first",
    "a.zip": "a zip archive; unpack it",
    "a.csv.xz": "compressed with xz; decompress it first",
    "a.pkl": "a Python pickle",
}


@pytest.mark.parametrize("name", FILES)
def test_other_files_in_one_sentence(name: str, tmp_path: Path) -> None:
    said = refusal(place(tmp_path, name, b"PK\x03\x04 something"))
    assert FILES[name] in said and len(said.splitlines()) == 1


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "python_calamine":
            raise ImportError(name)
        return whole(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    said = refusal(write_xlsx(tmp_path / "a.xlsx", {"Rows": [["text"], ["only here"]]}))
    assert "pip install 'lorita[excel]'; or save the sheet as CSV" in said
