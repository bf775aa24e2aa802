"""For columns of all names: the reading that is chosen, its explanation, and the rows it yields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorita.data.formats.choose_format import Wanted
from lorita.data.formats.readers import read_rows
from lorita.data.rows import Chat, Message, Pair, Rows, Text
from lorita.data.sources.load_source import load_source
from lorita.errors import DataError

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
SHARED = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
HI = (Message("user", "Hi"), Message("assistant", "Hello"))
SYSTEM = Message("system", "Be brief.")


def write(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(folder: Path, rows: list[dict[str, Any]], **wanted: str) -> Rows:
    return read_rows(load_source(write(folder, rows)), Wanted(**wanted))


READ: dict[str, tuple[dict[str, Any], object, str]] = {
    "text": ({"text": "a", "id": 3}, Text("a"), "text from the column 'text'; not used: id"),
    "one free text": ({"id": 3, "story": "a"}, Text("a"), "text from the column 'story'"),
    "prompt/completion": (
        {"prompt": "a", "completion": "b"},
        Pair("a", "b"),
        "prompt-completion from 'prompt', 'completion'; could also be read as text from the "
        "column 'prompt' (--text-field prompt)",
    ),
    "question/answer": (
        {"id": 1, "question": "a", "answer": "b"},
        Pair("a", "b"),
        "prompt-completion from prompt 'question', completion 'answer'; not used: id",
    ),
    "input/target": ({"input": "a", "target": "b"}, Pair("a", "b"), "completion 'target'"),
    "act/prompt": (
        {"act": "cook", "prompt": "You are a cook"},
        Text("You are a cook"),
        "text from the column 'prompt'; not used: act; could also be read as prompt-completion "
        "from prompt 'act', completion 'prompt' (--prompt-field act --completion-field prompt)",
    ),
    "alpaca": (
        {"instruction": "Add", "input": "1 and 2", "output": "3", "text": "Add 1 and 2: 3"},
        Chat((Message("user", "Add\n\n1 and 2"), Message("assistant", "3"))),
        "alpaca from 'instruction', 'output', 'input'; not used: text; could also be read as "
        "prompt-completion from prompt 'input', completion 'output'",
    ),
    "alpaca without input": (
        {"instruction": "Add", "input": "", "output": "3"},
        Chat((Message("user", "Add"), Message("assistant", "3"))),
        "alpaca",
    ),
    "alpaca with history": (
        {"instruction": "And 2?", "output": "4", "history": [["Add 1 and 1", "2"]]},
        Chat(
            (
                Message("user", "Add 1 and 1"),
                Message("assistant", "2"),
                Message("user", "And 2?"),
                Message("assistant", "4"),
            )
        ),
        "alpaca from 'instruction', 'output', 'history'",
    ),
    "dolly": (
        {"instruction": "Add", "context": "1 and 2", "response": "3", "category": "sums"},
        Chat((Message("user", "Add\n\n1 and 2"), Message("assistant", "3"))),
        "alpaca from 'instruction', output 'response', input 'context'",
    ),
    "messages": ({"messages": TURNS, "source": "x"}, Chat(HI), "messages from 'messages'"),
    "messages in another column": ({"talk": TURNS}, Chat(HI), "messages from messages 'talk'"),
    "messages as text": ({"messages": json.dumps(TURNS)}, Chat(HI), "messages from 'messages'"),
    "sharegpt": ({"conversations": SHARED}, Chat(HI), "sharegpt from 'conversations'"),
    "sharegpt with system": (
        {"conversations": SHARED, "system": "Be brief."},
        Chat((SYSTEM, *HI)),
        "sharegpt from 'conversations', 'system'",
    ),
    "openai": (
        {
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                {"role": "assistant", "content": "Ho", "weight": 0},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello", "weight": 1},
            ],
            "parallel_tool_calls": False,
        },
        Chat((SYSTEM, HI[0], Message("assistant", "Ho", True), *HI)),
        "messages from 'messages'; not used: parallel_tool_calls",
    ),
    "train false": (
        {"messages": [TURNS[0], {**TURNS[1], "train": False}, *TURNS]},
        Chat((HI[0], Message("assistant", "Hello", True), *HI)),
        "messages",
    ),
    "a chat in two columns, with tools": (
        {"prompt": TURNS[:1], "completion": TURNS[1:], "system": "Be brief.", "tools": [{"n": 1}]},
        Chat(
            (
                Message("system", "Be brief.", True),
                Message("user", "Hi", True),
                HI[1],
            ),
            ({"n": 1},),
        ),
        "prompt-completion from 'prompt', 'completion', 'system', 'tools'",
    ),
    "a chat in two columns": (
        {"prompt": TURNS[:1], "completion": TURNS[1:]},
        Chat((Message("user", "Hi", True), HI[1])),
        "prompt-completion",
    ),
}


@pytest.mark.parametrize("case", READ)
def test_detected(case: str, tmp_path: Path) -> None:
    row, expected, said = READ[case]
    rows = read(tmp_path, [row])
    assert list(rows.rows) == [expected]
    assert said in rows.understood


def test_tools_reach_the_template(tmp_path: Path) -> None:
    call = {
        "id": "1",
        "type": "function",
        "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'},
    }
    turns = [
        TURNS[0],
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "3", "tool_call_id": "1"},
        TURNS[1],
    ]
    tools = [{"type": "function", "function": {"name": "add"}}]
    chat = read(tmp_path, [{"messages": turns, "tools": tools}]).rows[0]
    assert isinstance(chat, Chat)
    assert chat.tools == tuple(tools)
    decoded = {**call, "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
    assert chat.messages[1].extra == {"tool_calls": [decoded]}
    assert chat.messages[2].extra == {"tool_call_id": "1"}
    assert chat.messages[0].extra == {}


def test_options_override_detection(tmp_path: Path) -> None:
    row = {"a": "x", "b": "y", "text": "z"}
    fields = {"prompt_field": "a", "completion_field": "b"}
    assert list(read(tmp_path, [row], **fields).rows) == [Pair("x", "y")]
    assert list(read(tmp_path, [row], text_field="b").rows) == [Text("y")]
    assert list(read(tmp_path, [row], text_template="{b}{a}").rows) == [Text("yx")]
    free = {"question": "x", "reply": "y"}
    assert list(read(tmp_path, [free], completion_field="reply").rows) == [Pair("x", "y")]
    alpaca = {"instruction": "i", "input": "x", "output": "y"}
    assert list(read(tmp_path, [alpaca], format="prompt-completion").rows) == [Pair("x", "y")]
    both = {"text": "x", "messages": TURNS}
    assert list(read(tmp_path, [both], format="text").rows) == [Text("x")]


def test_the_same_rows_from_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,question,answer\n1,"a\nb",c\n2,3,4\n')
    rows = read_rows(load_source(str(tmp_path / "a.csv")))
    assert list(rows.rows) == [Pair("a\nb", "c"), Pair("3", "4")]


USER, ASSISTANT = TURNS
REFUSED: dict[str, tuple[list[dict[str, Any]], dict[str, str], list[str]]] = {
    "two free columns": (
        [{"dutch": "a", "english": "b"}],
        {},
        ["which column holds the text?", "--prompt-field dutch --completion-field english"],
    ),
    "no such prompt field": (
        [{"a": "x", "b": "y"}],
        {"prompt_field": "q", "completion_field": "b"},
        ["no column 'q'; the columns are a, b"],
    ),
    "which completion": (
        [{"a": "x", "b": "y", "c": "z"}],
        {"prompt_field": "a"},
        ["which column is the completion?", "--completion-field NAME"],
    ),
    "no such format here": (
        [{"a": "x", "b": "y"}],
        {"format": "messages"},
        ["messages needs a column of messages", "the columns are a, b"],
    ),
    "no pair here": ([{"a": "x"}], {"format": "prompt-completion"}, ["--prompt-field NAME"]),
    "empty completion": (
        [{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": " "}],
        {},
        ["row 2: the column 'completion' is empty"],
    ),
    "empty instruction": (
        [{"instruction": "", "output": "b"}, {"instruction": "a", "output": ""}],
        {},
        ["row 1: the column 'instruction' is empty", "row 2: the column 'output' is empty"],
    ),
    "no messages": (
        [{"messages": TURNS}, {"messages": []}],
        {},
        ["row 2: the chat has no messages"],
    ),
    "history of another shape": (
        [{"instruction": "a", "output": "b", "history": ["c", "d"]}],
        {},
        ["row 1: its history is not a list of pairs"],
    ),
    "messages missing": (
        [{"messages": TURNS}, {"messages": None}],
        {},
        ["row 2: expected a list of messages, found nothing"],
    ),
    "no role": (
        [{"messages": TURNS}, {"messages": [{"content": "x"}, ASSISTANT]}],
        {},
        ["row 2: message 1 has no role"],
    ),
    "unknown role": (
        [{"messages": [{"role": "narrator", "content": "x"}, *TURNS]}],
        {},
        ["row 1: message 1: unknown role 'narrator' (system, user, assistant, tool)"],
    ),
    "no content": (
        [{"messages": [{"role": "user", "content": None}, ASSISTANT]}],
        {},
        ["row 1: message 1 has no content"],
    ),
    "empty answer": (
        [{"messages": [USER, {"role": "assistant", "content": ""}]}],
        {},
        ["row 1: message 2: the assistant turn is empty"],
    ),
    "assistant first": (
        [{"messages": TURNS}, {"messages": [ASSISTANT, *TURNS]}],
        {},
        ["row 2: the assistant speaks first"],
    ),
    "no answer": (
        [{"messages": [USER]}, {"messages": [USER, USER]}],
        {},
        ["rows 1, 2: no assistant turn"],
    ),
    "weight of a half": (
        [{"messages": [USER, {**ASSISTANT, "weight": 0.5}]}],
        {},
        ["row 1: message 2: weight is 0.5; it must be 0 or 1"],
    ),
    "an image": (
        [{"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ASSISTANT]}],
        {},
        ["row 1: message 1: its content has parts that are not text"],
    ),
    "content is a number": (
        [{"messages": json.dumps([{"role": "user", "content": 3}, ASSISTANT])}],
        {},
        ["row 1: message 1: its content is not text (found int)"],
    ),
    "message is a text": (
        [{"messages": json.dumps([USER, "Hello"])}],
        {},
        ["row 1: message 2: expected an object, found str"],
    ),
    "broken json in a cell": (
        [{"messages": json.dumps(TURNS)}, {"messages": '[{"role": '}],
        {},
        ["row 2: expected a list of messages, found str"],
    ),
    "tools no json": (
        [{"messages": TURNS, "tools": "[{"}],
        {},
        ["row 1: tools: not valid JSON"],
    ),
    "lists for texts": (
        [{"prompt": ["a"], "completion": "b"}],
        {},
        ["row 1: the column 'prompt' does not hold text (found list)"],
    ),
    "many mistakes": (
        [{"messages": [USER]}, {"messages": [{"role": "x", "content": "y"}]}],
        {},
        ["row 1: no assistant turn", "row 2: message 1: unknown role 'x'"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, tmp_path: Path) -> None:
    rows, wanted, said = REFUSED[case]
    with pytest.raises(DataError) as refused:
        read(tmp_path, rows, **wanted)
    for part in said:
        assert part in str(refused.value)
    assert "rows.jsonl" in str(refused.value)
