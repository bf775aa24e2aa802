"""Chats written as text in a cell are parsed or refused; they are never trained as text unsaid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lorita.data.formats.choose_format import Wanted
from lorita.data.formats.written_chats import decoded
from lorita.data.rows import Chat, Message, Pair, Text
from tests.cases.reading import ANSWERED, CHAT, TURNS, lines, place, read, refusal, rows_of

ODD = [
    {"role": "user", "content": 'It\'s "odd":\n} {, array([nan ...])'},
    {"role": "assistant", "content": "C:\\temp, ¿no?"},
]
PRINTED = {
    "json": json.dumps(ODD),
    "json twice": json.dumps(json.dumps(ODD)),
    "python": str(ODD),
    "numpy": str(np.array(ODD, dtype=object)),
    "numpy's repr": repr(np.array(ODD, dtype=object)),
    "an object of one list": str({"messages": ODD}),
    "an object with an id": json.dumps({"id": "x1", "n": 3, "messages": ODD}),
    "a tuple": str(tuple(ODD)),
    "without brackets": str(ODD)[1:-1],
    "content first": str([dict(reversed(turn.items())) for turn in ODD]),
}


@pytest.mark.parametrize("way", PRINTED)
def test_every_way_of_printing_gives_the_same_chat(way: str, tmp_path: Path) -> None:
    expected = [Chat(tuple(Message(turn["role"], turn["content"]) for turn in ODD))]
    cell = PRINTED[way]
    table = pd.DataFrame({"id": [7], "talk": [cell]}).to_csv(index=False)
    assert rows_of(place(tmp_path, "a.csv", table)) == expected
    found = read(place(tmp_path, "a.jsonl", lines({"id": 7, "talk": cell})))
    assert list(found.rows) == expected
    assert "the chats in 'talk' are written as text" in found.understood
    pq.write_table(pa.table({"talk": [cell]}), tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet") == expected


def test_what_pandas_writes(tmp_path: Path) -> None:
    frame = pd.DataFrame({"messages": [np.array(TURNS, dtype=object)] * 2, "id": [1, 2]})
    frame.to_csv(tmp_path / "a.csv")
    assert rows_of(tmp_path / "a.csv") == [CHAT, CHAT]


SHARED = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
ROWS: dict[str, tuple[dict[str, Any], object]] = {
    "sharegpt": ({"conversations": str(SHARED)}, CHAT),
    "in two columns": ({"prompt": str(TURNS[:1]), "completion": str(TURNS[1:])}, ANSWERED),
    "the answer alone": ({"prompt": "Hi", "completion": str(TURNS[1:])}, ANSWERED),
    "an object": ({"data": {"messages": TURNS}}, CHAT),
    "json that is no chat": (
        {"prompt": "Who?", "completion": '[{"role": "Engineer", "name": "Ada"}]'},
        Pair("Who?", '[{"role": "Engineer", "name": "Ada"}]'),
    ),
    "calls as text": (
        {"prompt": "f", "completion": "[{'name': 'f'}]"},
        Pair("f", "[{'name': 'f'}]"),
    ),
    "a footnote": ({"text": "[1] is a note"}, Text("[1] is a note")),
}


@pytest.mark.parametrize("case", ROWS)
def test_rows(case: str, tmp_path: Path) -> None:
    row, expected = ROWS[case]
    assert rows_of(place(tmp_path, "a.jsonl", lines(row))) == [expected]


def test_tools_as_python_writes_them(tmp_path: Path) -> None:
    row = {"messages": str(TURNS), "tools": "[{'name': 'f', 'strict': True}]"}
    (chat,) = rows_of(place(tmp_path, "a.jsonl", lines(row)))
    assert isinstance(chat, Chat) and chat.tools == ({"name": "f", "strict": True},)


BROKEN = {
    "shortened by numpy": (str(np.array(TURNS * 600, dtype=object)), "shortened with ..."),
    "shortened by pandas": (str(TURNS)[:40] + "...", "shortened with ..."),
    "cut off": (str(TURNS)[:-9], "cut off or malformed"),
    "cut json": (json.dumps(TURNS)[:-9], "not valid JSON"),
    "code": ("[{'role': 'user', 'content': open('x').read()}]", "cut off or malformed"),
    "objects of a class": ("[Message(role='user', content='Hi')]", "cut off or malformed"),
    "an object with tools": (
        str({"messages": TURNS, "tools": [{"name": "f"}]}),
        "an object with messages, tools, from which lorita takes no list",
    ),
    "too deep": ("[{'role': 'user', 'content': " + "[" * 10**5, "cut off or malformed"),
    "two strings": ("[{'role': 'user', 'content': 'a' 'b'}]", "no comma between two strings"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_read_is_refused(case: str, tmp_path: Path) -> None:
    cell, why = BROKEN[case]
    good = {"text": str(TURNS)}
    for rows in ([{"text": cell}], [good, {"text": cell}], [{"text": cell}, good]):
        said = refusal(place(tmp_path, "a.jsonl", lines(*rows)))
        assert why in said and "row" in said
    assert decoded(cell) == cell


UNSAID = {
    "a role nobody knows": {"messages": "[{'role': 'narrator', 'content': 'x'}]"},
    "one turn": {"text": str(TURNS[0])},
    "chats in a list": {"text": str([TURNS])},
    "a summary": {"messages": "<list of 2>"},
}


@pytest.mark.parametrize("case", UNSAID)
def test_what_only_looks_like_a_chat_is_no_text(case: str, tmp_path: Path) -> None:
    assert refusal(place(tmp_path, "a.jsonl", lines(UNSAID[case])))


@pytest.mark.parametrize("cell", ["[{'speaker': 'A', 'text': 'Hi'}]", "['a', 'b']", '[["a"]]'])
def test_other_lists_are_text_and_said(cell: str, tmp_path: Path) -> None:
    found = read(place(tmp_path, "a.jsonl", lines({"text": cell}, {"text": "b"})))
    assert found.rows[0] == Text(cell)
    assert "'text' has 1 cell that begins as a list does" in found.understood


def test_a_chat_far_down_in_a_column_of_text(tmp_path: Path) -> None:
    rows = [{"text": f"row {i}"} for i in range(50)] + [{"text": str(TURNS)}]
    file = place(tmp_path, "a.jsonl", lines(*rows))
    assert "row 51: the column 'text' holds a chat written as text" in refusal(file)
    named = read(file, Wanted(text_field="text"))
    assert named.rows[50] == Text(str(TURNS))
    assert "1 cell with a chat written as text" in named.understood
