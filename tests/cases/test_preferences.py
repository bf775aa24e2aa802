"""Of preference data the preferred answers are trained, whatever the layout, and that is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorita.cli import run as command
from lorita.data.formats.choose_format import Wanted
from lorita.data.rows import Chat, Message, Pair
from tests.cases.reading import ANSWER, ANSWERED, CHAT, TURNS, USER, lines, place, read, refusal
from tests.command import refused

BAD = {"role": "assistant", "content": "Go away."}


def hh(answer: str) -> str:
    return f"\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Bye\n\nAssistant: {answer}"


TALK = (Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "Bye"))
LAYOUTS: dict[str, tuple[dict[str, Any], object]] = {
    "whole chats": ({"prompt": "Hi", "rejected": [USER, BAD], "chosen": TURNS}, CHAT),
    "implicit prompt": ({"rejected": [USER, BAD], "chosen": TURNS}, CHAT),
    "ultrafeedback": (
        {
            "prompt": "Hi",
            "messages": [USER, BAD],
            "rejected": [USER, BAD],
            "chosen": TURNS,
            "score_chosen": 9.0,
            "score_rejected": 1.0,
        },
        CHAT,
    ),
    "texts": ({"prompt": "Hi", "rejected": "Go", "chosen": "Hello"}, Pair("Hi", "Hello")),
    "chats of the answer": ({"prompt": [USER], "rejected": [BAD], "chosen": [ANSWER]}, ANSWERED),
    "a text and a chat": ({"prompt": "Hi", "rejected": [BAD], "chosen": [ANSWER]}, ANSWERED),
    "one turn each": (
        {
            "conversations": [{"from": "human", "value": "Hi"}],
            "rejected": {"from": "gpt", "value": "Go"},
            "chosen": {"from": "gpt", "value": "Hello"},
        },
        ANSWERED,
    ),
    "with a system message": (
        {"system": "Be kind.", "question": "Hi", "rejected": "Go", "chosen": "Hello"},
        Chat((Message("system", "Be kind."), *CHAT.messages)),
    ),
    "with an input": (
        {"instruction": "Greet", "input": "Ada", "rejected": "Go", "chosen": "Hello"},
        Chat((Message("user", "Greet\n\nAda"), Message("assistant", "Hello"))),
    ),
    "one text": (
        {"rejected": hh("No."), "chosen": hh("See you.")},
        Chat((*TALK, Message("assistant", "See you."))),
    ),
    "one text as prompt": (
        {"prompt": hh(""), "rejected": "No.", "chosen": "See you."},
        Chat(
            (
                *(Message(m.role, m.content, muted=True) for m in TALK),
                Message("assistant", "See you."),
            )
        ),
    ),
    "openai": (
        {
            "input": {"messages": [USER], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [ANSWER],
            "non_preferred_output": [BAD],
        },
        ANSWERED,
    ),
    "written as text": ({"rejected": str([USER, BAD]), "chosen": str(TURNS)}, CHAT),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_preferred_answer_is_trained(layout: str, tmp_path: Path) -> None:
    row, expected = LAYOUTS[layout]
    found = read(place(tmp_path, "a.jsonl", lines(row, row)))
    assert list(found.rows) == [expected, expected]
    assert "holds the preferred answers and is trained" in found.understood
    assert (
        "rejected' is not" in found.understood or "non_preferred_output' is not" in found.understood
    )
    assert "--messages-field rejected" not in found.understood


def test_another_column_can_be_named(tmp_path: Path) -> None:
    row, _ = LAYOUTS["ultrafeedback"]
    file = place(tmp_path, "a.jsonl", lines(row))
    for column in ("rejected", "messages"):
        (chat,) = read(file, Wanted(messages_field=column)).rows
        assert isinstance(chat, Chat) and chat.messages[1].content == "Go away."
    assert "no column 'talk'" in refusal(file, Wanted(messages_field="talk"))
    not_chats = refusal(file, Wanted(messages_field="prompt"))
    assert "row 1: expected a list of messages, found str" in not_chats


JUDGED: dict[str, list[tuple[Any, Any]]] = {
    "booleans": [("good", True), ("bad", False), ("fine", True)],
    "words": [("good", "True"), ("bad", "False"), ("fine", "true")],
    "ones and zeros": [("good", 1), ("bad", 0), ("fine", 1)],
}


@pytest.mark.parametrize("case", JUDGED)
def test_answers_labelled_bad_are_left_out(case: str, tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": text, "label": label} for text, label in JUDGED[case]]
    found = read(place(tmp_path, "a.jsonl", lines(*rows)))
    assert list(found.rows) == [Pair("a", "good"), Pair("a", "fine")]
    assert "1 of 3 rows have the label false" in found.understood


@pytest.mark.parametrize("column", ["label", "kto_tag"])
def test_chats_labelled_bad_are_left_out(column: str, tmp_path: Path) -> None:
    rows = [{"messages": TURNS, column: True}, {"messages": [USER, BAD], column: False}]
    found = read(place(tmp_path, "a.jsonl", lines(*rows)))
    assert list(found.rows) == [CHAT]
    assert f"1 of 2 rows have the {column} false" in found.understood


def test_labels_that_do_not_judge(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": "b", "label": n} for n in range(3)]
    assert len(read(place(tmp_path, "a.jsonl", lines(*rows))).rows) == 3
    bad = [{"prompt": "a", "completion": "b", "label": False}] * 2
    assert "every row has the label false" in refusal(place(tmp_path, "b.jsonl", lines(*bad)))
    mixed = [{"prompt": "a", "completion": "b", "label": True}] * 30 + [
        {"prompt": "a", "completion": "b", "label": "maybe"}
    ]
    assert "row 31: its label is neither" in refusal(place(tmp_path, "c.jsonl", lines(*mixed)))


def test_the_command_line_says_it(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row, _ = LAYOUTS["whole chats"]
    file = place(tmp_path, "a.jsonl", lines(row))
    preview = ("preview", str(file), "--model", str(llama))
    assert command([*preview]) == 0
    assert "holds the preferred answers" in " ".join(capsys.readouterr().out.split())
    assert command([*preview, "--messages-field", "rejected"]) == 0
    assert "messages 'rejected'" in capsys.readouterr().out
    said = refused(capsys, *preview, "--messages-field", "chosen", "--text-field", "prompt")
    assert "messages_field cannot be used together" in said
