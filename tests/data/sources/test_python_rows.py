"""Rows and functions given in Python mean the same as files and flags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

import lorita
from lorita.cli import run as command
from lorita.errors import DataError, UserError
from lorita.runs.prepare import prepare
from lorita.settings.build import build_settings, to_yaml

ROWS = [{"q": f"What is {i}?", "a": f"It is {i}."} for i in range(12)]
FIELDS = {"prompt_field": "q", "completion_field": "a"}


def tokens(tmp_path: Path, llama: Path, **options: Any) -> list[list[int]]:
    settings = build_settings(model=str(llama), output_dir=tmp_path / "run", **options)
    return [example.input_ids for example in prepare(settings).data.train]


def to_pair(row: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": row["q"], "completion": row["a"]}


def to_text(row: dict[str, Any]) -> str | None:
    return None if "3" in row["q"] else f"{row['q']} {row['a']}"


def test_lists_data_sets_and_files_are_the_same(llama: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    expected = tokens(tmp_path, llama, data=str(file), **FIELDS)
    for given in (ROWS, tuple(ROWS), Dataset.from_list(ROWS)):
        assert tokens(tmp_path, llama, data=given, **FIELDS) == expected
    assert tokens(tmp_path, llama, data=str(file), map_row=to_pair) == expected
    assert tokens(tmp_path, llama, data=ROWS, eval_data=ROWS[:2], eval_fraction=None, **FIELDS)


def test_a_flag_names_the_function(llama: Path, tmp_path: Path, capsys: Any) -> None:
    file, module = tmp_path / "rows.jsonl", tmp_path / "mine.py"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    module.write_text("def pair(row):\n    return {'prompt': row['q'], 'completion': row['a']}\n")
    arguments = ["preview", str(file), "--model", str(llama), "--json"]
    assert command([*arguments, "--map-row", f"{module}:pair"]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == "prompt-completion"
    name = f"{__name__}:to_pair"
    assert tokens(tmp_path, llama, data=str(file), map_row=name)


def test_rows_can_be_dropped_and_it_is_reported(llama: Path) -> None:
    found = lorita.preview(model=str(llama), data=ROWS, map_row=to_text)
    assert found.format == "text" and found.rows == 11
    assert any("map_row to_text dropped 1 rows" in note for note in found.notes)


def broken(row: dict[str, Any]) -> Any:
    return {"text": row["question"]} if "1" in row["q"] else row["a"]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (broken, r"rows 2, 11, 12: map_row broken: KeyError: 'question'"),
        (lambda row: 3, "returned int; expected a dict, a str or None"),
        (lambda row: None, "dropped every row"),
        ("mine.py:f", "mine.py: file not found"),
        ("mine", "use the form module.py:function"),
        ("json:nothing", "json has no function 'nothing'"),
        ("no.such.module:f", "cannot be loaded"),
        ("__main__:f", "was a function defined in a script"),
    ],
)
def test_mistakes(function: Any, said: str, llama: Path) -> None:
    with pytest.raises(UserError, match=said):
        lorita.preview(model=str(llama), data=ROWS, map_row=function)


def test_rows_that_do_not_form_a_table(llama: Path) -> None:
    with pytest.raises(DataError, match="do not form a table"):
        lorita.preview(model=str(llama), data=[{"a": 1}, {"a": {"b": "x"}}])


def test_the_settings_file_marks_rows_given_in_python(llama: Path, tmp_path: Path) -> None:
    settings = build_settings(model=str(llama), data=ROWS, map_row=to_pair)
    file = tmp_path / "run.yaml"
    file.write_text(to_yaml(settings))
    assert "data: [python-rows]" in file.read_text()
    with pytest.raises(UserError, match="nobody has allowed"):
        lorita.preview(config=file, data=ROWS)
    with pytest.raises(DataError, match="were passed in Python"):
        lorita.preview(config=file, map_row=to_pair)
    again = lorita.preview(config=file, data=ROWS, map_row=to_pair)
    assert again.format == "prompt-completion"
