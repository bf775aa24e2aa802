"""OpenAI's rules for training data, line by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorita.jobs.records import Failure
from lorita.jobs.rules import LEAST_EXAMPLES, MOST_LINE_BYTES, BadFile, check_file
from tests.command import write

USER = {"role": "user", "content": "x"}
GOOD = {"messages": [USER, {"role": "assistant", "content": "y"}]}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def said(weight: Any = None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "y", **({} if weight is None else {"weight": weight}),
            **more}  # fmt: skip


def failure(place: Path, *lines: Any, param: str = "training_file") -> Failure:
    """What is wrong with a file of good lines and these."""
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    good = [json.dumps(GOOD).encode()] * LEAST_EXAMPLES
    path = write(place / "data", b"\n".join([*good, *texts]) + b"\n")
    with pytest.raises(BadFile) as bad:
        check_file(path, param)
    return bad.value.failure


@pytest.mark.parametrize(
    "row",
    [
        GOOD,
        chat({"role": "system", "content": "s"}, USER, said(0), USER, said(1)),
        chat({"role": "developer", "content": "s"}, USER, said(name="bot")),
        chat(USER, {"role": "assistant", "content": None, "tool_calls": [CALL]},
             {"role": "tool", "tool_call_id": "c1", "content": "r"}, said(), tools=TOOLS,
             parallel_tool_calls=False),
        chat({"role": "user", "content": [{"type": "text", "text": "x"}]}, said()),
        chat(USER, {"role": "assistant", "content": None, "refusal": "no"}),
    ],
)  # fmt: skip
def test_what_passes(tmp_path: Path, row: dict[str, Any]) -> None:
    path = write(tmp_path / "data", "\n\n".join([json.dumps(row)] * 12))
    assert check_file(path, "training_file") == 12


def test_pairs_pass_and_a_byte_order_mark(tmp_path: Path) -> None:
    row = json.dumps({"prompt": "a", "completion": "b"})
    path = write(tmp_path / "data", b"\xef\xbb\xbf" + "\r\n".join([row] * 10).encode())
    assert check_file(path, "training_file") == 10


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (b"{", "line 11: not valid JSON"),
        (b"[" * 100_000, "line 11: not valid JSON"),
        (b"\xff{}", "line 11: not UTF-8"),
        (b"3", "line 11: not a JSON object"),
        (b'"' + b"x" * MOST_LINE_BYTES + b'"', "line 11: longer than 8,388,608 bytes"),
        ({"text": "x"}, "has no messages"),
        ({"messages": []}, "at least one message"),
        ({"messages": "x"}, "must be a list"),
        ({"messages": [3]}, "messages[0] is not an object"),
        (chat({"role": "wizard", "content": "x"}, said()), "messages[0].role is 'wizard'"),
        (chat({"content": "x"}, said()), "messages[0].role is None"),
        (chat(USER), "the last message must be from the assistant"),
        (chat(USER, said(0)), "has weight 0, so there is nothing to learn"),
        (chat(USER, said(2)), "weight must be 0 or 1"),
        (chat(USER, said(0.5)), "weight must be 0 or 1"),
        (chat(USER, said(True)), "weight must be 0 or 1"),
        (chat(USER, said(-1)), "weight must be 0 or 1"),
        (chat({**USER, "weight": 1}, said()), "only messages of the assistant have one"),
        (chat({"role": "user"}, said()), "messages[0].content must be a text"),
        (chat({"role": "user", "content": 3}, said()), "messages[0].content must be a text"),
        (chat({**USER, "content": [{"type": "image_url", "image_url": {"url": "u"}}]}, said()),
         "a part of type 'image_url'; only text is trained"),
        (chat({**USER, "mood": "x"}, said()), "unknown key 'messages[0].mood'"),
        ({**GOOD, "id": 3}, "unknown key 'id'"),
        (chat(USER, {"role": "tool", "tool_call_id": "z", "content": "r"}, said()),
         "tool_call_id must name a tool call"),
        (chat(USER, said(tool_calls=[{"id": "1"}])), "a call has an id, the type function"),
        (chat(USER, said(tool_calls=[{**CALL, "function": {"name": "f", "arguments": "{"}}])),
         "arguments must be a JSON object in a text"),
        (chat({**USER, "tool_calls": [CALL]}, said()), "only the assistant calls tools"),
        (chat(USER, said(), tools=[{"type": "function"}]), "tools: each must be of type function"),
        ({"input": {}, "preferred_output": [], "non_preferred_output": []},
         "only supervised training is done here"),
        ({"prompt": "x", "completion": 3}, "completion must be a text"),
        ({"prompt": "x", "completion": "y"}, "some lines are chats"),
    ],
)  # fmt: skip
def test_what_does_not(tmp_path: Path, row: Any, words: str) -> None:
    found = failure(tmp_path, row)
    assert words in found.message
    assert (found.code, found.param) == ("invalid_training_file", "training_file")


def test_all_problems_at_once_and_not_too_many(tmp_path: Path) -> None:
    found = failure(tmp_path, *[chat(USER)] * 9, param="validation_file")
    assert "line 11" in found.message
    assert "line 12" in found.message
    assert "and 4 more" in found.message
    assert found.code == "invalid_validation_file"


def test_too_few_examples(tmp_path: Path) -> None:
    path = write(tmp_path / "data", "\n".join([json.dumps(GOOD)] * 9))
    with pytest.raises(BadFile, match="must have at least 10") as bad:
        check_file(path, "training_file")
    assert bad.value.failure.code == "invalid_n_examples"
    assert check_file(path, "validation_file") == 9
