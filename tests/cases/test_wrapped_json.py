"""JSON objects that hold the rows somewhere inside: found and named, asked about, or refused."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lorita.data.rows import Pair, Text
from lorita.data.sources.load_source import load_source
from tests.cases.reading import ANSWERED, CHAT, TURNS, lines, place, read, refusal

ROWS = [{"prompt": f"a{i}", "completion": f"b{i}"} for i in range(3)]
PAIRS = [Pair(f"a{i}", f"b{i}") for i in range(3)]
CHATS = [{"messages": TURNS}, {"messages": TURNS}]
FRAME = pd.DataFrame(ROWS)


def viewer(*cut: str, **more: Any) -> dict[str, Any]:
    """A page of the hub's viewer."""
    rows = [{"row_idx": i, "row": row, "truncated_cells": list(cut)} for i, row in enumerate(ROWS)]
    return {"features": [{"feature_idx": 0, "name": "prompt"}], "rows": rows, **more}


HELD: dict[str, tuple[Any, list[Any], str]] = {
    "data": ({"version": "1", "data": ROWS}, PAIRS, "the list 'data' (not read: version)"),
    "any key": ({"my things": ROWS, "n": 3}, PAIRS, "the list 'my things' (not read: n)"),
    "deeper": ({"ok": True, "result": {"page": 1, "items": ROWS}}, PAIRS, "'result.items'"),
    "task instances": ({"type": "text2text", "instances": ROWS}, PAIRS, "the list 'instances'"),
    "splits": ({"test": ROWS[:1], "train": ROWS}, PAIRS, "the list 'train' (not read: test)"),
    "rows of chats": ({"conversations": CHATS}, [CHAT, CHAT], "the list 'conversations'"),
    "a list of chats": ({"data": [TURNS, TURNS]}, [CHAT, CHAT], "the keys of the object are"),
    "viewer": (viewer(num_rows_total=3), PAIRS, "a page of the hub's viewer"),
    "part of it": (viewer(num_rows_total=900), PAIRS, "only 3 of its 900 rows"),
    "columns": (FRAME.to_dict("list"), PAIRS, "the keys of the object are the columns"),
    "texts": ({"version": 2, "texts": ["a", "b"]}, [Text("a"), Text("b")], "are the columns"),
    "columns of splits": (
        {"train": FRAME.to_dict("list"), "test": FRAME.to_dict("list")},
        PAIRS,
        "the keys of 'train' are the columns (not read: test)",
    ),
    "pandas": (json.loads(FRAME.to_json()), PAIRS, "the keys of the object are the columns"),
    "pandas' index": (json.loads(FRAME.to_json(orient="index")), PAIRS, "the values of the object"),
    "pandas' split": (json.loads(FRAME.to_json(orient="split")), PAIRS, "is a table: the names"),
    "datasette": (
        {"columns": ["prompt", "completion"], "rows": [["a0", "b0"]], "truncated": False},
        PAIRS[:1],
        "is a table",
    ),
    "a table with types": (
        {"fields": [{"name": "prompt"}, {"name": "completion"}], "values": [["a0", "b0"]]},
        PAIRS[:1],
        "is a table",
    ),
    "pandas' table": (
        json.loads(FRAME.to_json(orient="table")),
        PAIRS,
        "the list 'data' (not read: schema)",
    ),
    "rows under ids": (dict(zip("xyz", ROWS, strict=True)), PAIRS, "the values of the object"),
    "chats under ids": ({"d1": TURNS, "d2": TURNS}, [CHAT, CHAT], "the values of the object"),
    "deeper ids": ({"talks": {"d1": TURNS, "d2": TURNS}}, [CHAT, CHAT], "the values of 'talks'"),
    "pandas' names": (
        {"prompt": {"x": "a0", "y": "a1"}, "completion": {"x": "b0", "y": "b1"}},
        PAIRS[:2],
        "the keys of the object are the columns",
    ),
    "a chat in two parts": ({"prompt": TURNS[:1], "completion": TURNS[1:]}, [ANSWERED], ""),
    "one row": ({"messages": TURNS}, [CHAT], ""),
    "a row with sources": (
        {"prompt": "a0", "completion": "b0", "sources": [{"url": "x"}]},
        PAIRS[:1],
        "not used: sources",
    ),
}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("case", HELD)
def test_the_rows_are_found_and_said(case: str, indent: int | None, tmp_path: Path) -> None:
    content, expected, said = HELD[case]
    for name in ("a.json", "a.jsonl"):
        found = read(place(tmp_path, name, json.dumps(content, indent=indent)))
        assert list(found.rows) == expected
        assert said in found.understood


REFUSED: dict[str, tuple[Any, list[str]]] = {
    "two lists": ({"a": ROWS, "b": ROWS}, ["a (3 rows), b (3 rows)", "--data-name"]),
    "no train": ({"test": ROWS, "dev": ROWS}, ["no split 'train'", "test (3 rows), dev (3 rows)"]),
    "settings": ({"layers": 3, "names": {"a": 1}}, ["the keys layers, names, and no list of rows"]),
    "uneven columns": ({"x": ["a", "b"], "y": ["c"]}, ["x, y, and no list of rows"]),
    "shortened cells": (viewer("prompt"), ["row 1: the hub's viewer has shortened prompt"]),
    "squad": (
        {"data": [{"title": "T", "paragraphs": [{"context": "c", "qas": [{"question": "q"}]}]}]},
        ["paragraphs has lists of objects", "Make each example a row"],
    ),
    "coqa": (
        {"data": [{"story": "S", "questions": [{"input_text": "q"}], "id": "x"}] * 2},
        ["questions has lists of objects"],
    ),
    "uneven rows": ({"columns": ["a", "b"], "data": [["x"]]}, ["does not have 2 cells"]),
    "a broken part": ('{"data": [{"a": 1},\n{"a": }]}', ["line 2: not valid JSON"]),
    "cut": ('{"n": 1, "data": [\n{"text": "a"}', ["line 2: the list is not closed"]),
    "a key twice": ('{"a": 1,\n"a": []}', ["line 2: not valid JSON: duplicate key 'a'"]),
    "two values": ('{"data": []}\n[]', ["line 2: expected an object"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_clear_is_refused(case: str, tmp_path: Path) -> None:
    content, said = REFUSED[case]
    text = content if isinstance(content, str) else json.dumps(content, indent=1)
    message = refusal(place(tmp_path, "a.json", text))
    for part in said:
        assert part in message


def test_a_list_can_be_named(tmp_path: Path) -> None:
    file = place(tmp_path, "a.json", json.dumps({"old": ROWS[:1], "new": {"rows": ROWS}}))
    for name in ("rows", "new.rows"):
        assert list(read(file, name=name).rows) == PAIRS
    assert "no list of rows named 'x'; it has old (1 rows), new.rows" in refusal(file, name="x")
    splits = place(tmp_path, "b.json", json.dumps({"train": ROWS, "test": ROWS[:1]}))
    assert list(read(splits, split="test").rows) == PAIRS[:1]
    whole = place(tmp_path, "c.jsonl", lines(*ROWS))
    assert "no part named 'x'" in refusal(whole, name="x")
    table = place(tmp_path, "d.csv", "text\na\n")
    assert "no part named 'x'" in refusal(table, name="x")


def test_objects_one_after_another(tmp_path: Path) -> None:
    text = "\n".join(json.dumps(row, indent=2) for row in ROWS)
    assert list(read(place(tmp_path, "a.json", text)).rows) == PAIRS


def test_a_page_of_the_viewer_through_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.TextIOWrapper(io.BytesIO(json.dumps(viewer(), indent=1).encode()))
    monkeypatch.setattr(sys, "stdin", pipe)
    source = load_source("-")
    assert source.cells([0])["prompt"] == ["a0"]
    assert "a page of the hub's viewer" in str(source.notes)


def test_a_list_larger_than_one_read(tmp_path: Path) -> None:
    rows = [{"text": f"{i} " + 'ñ\\" [{,}]' * (i % 700)} for i in range(400)]
    file = place(tmp_path, "a.json", json.dumps({"n": {"k": rows[:50]}, "train": rows}))
    found = read(file, name="train")
    assert [row.text for row in found.rows if isinstance(row, Text)] == [r["text"] for r in rows]


def test_lists_of_turns_are_rows(tmp_path: Path) -> None:
    assert list(read(place(tmp_path, "a.json", json.dumps([TURNS, TURNS]))).rows) == [CHAT, CHAT]
    text = json.dumps(TURNS) + "\n" + json.dumps(TURNS) + "\n"
    assert list(read(place(tmp_path, "b.jsonl", text)).rows) == [CHAT, CHAT]
    assert "found a list" in refusal(place(tmp_path, "c.json", '[["a", "b"]]'))
