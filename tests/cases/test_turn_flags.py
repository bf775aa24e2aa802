"""Flags of other tools that say whether a turn is trained: known ones are obeyed."""

from __future__ import annotations

from typing import Any

import pytest

from lorita.data.examples import IGNORE
from lorita.data.formats.readers import read_rows
from lorita.data.sources.python_rows import rows_source
from lorita.data.tokens.tokenize import Treatment, tokenize_rows
from lorita.data.tokens.tokenizer_template import template_from
from lorita.errors import DataError
from tests.cases.chat_kinds import ASK, said
from tests.cases.test_chat_fields import BARE, IM
from tests.data.tokens.tokenizers import make


def trained(messages: list[dict[str, Any]], train_on: str | None = None) -> str:
    """What is trained in a chat."""
    tokenizer = make("bytes", IM)
    how = Treatment(9999, template_from(tokenizer, BARE), train_on)
    rows = read_rows(rows_source([{"messages": messages}], "rows")).rows
    example = tokenize_rows(list(rows), [0], tokenizer, how, origin="rows").examples[0]
    return str(tokenizer.decode([label for label in example.labels if label != IGNORE]))


def chat(**first: object) -> list[dict[str, Any]]:
    """A chat whose first answer has this flag."""
    return [ASK, said("assistant", "First.", **first), ASK, said("assistant", "Second.")]


@pytest.mark.parametrize("key", ["loss", "training", "trainable", "weight", "train"])
@pytest.mark.parametrize("no", [False, 0, 0.0, "false", "0"])
@pytest.mark.parametrize("yes", [True, 1, "True"])
def test_a_turn_is_trained_as_its_flag_says(key: str, no: object, yes: object) -> None:
    assert trained(chat(**{key: no})) == "Second.<|im_end|>"
    assert trained(chat(**{key: yes})) == "First.<|im_end|>Second.<|im_end|>"


def test_masked_says_the_opposite() -> None:
    assert trained(chat(masked=True)) == "Second.<|im_end|>"
    assert trained(chat(masked=False)) == "First.<|im_end|>Second.<|im_end|>"


@pytest.mark.parametrize(
    ("flags", "said_of_it"),
    [
        ({"loss": 0.5}, "loss is 0.5; it must be 0 or 1"),
        ({"trainable": "perhaps"}, "trainable is 'perhaps'; it must be 0 or 1"),
        ({"train": True, "loss": False}, "train and loss contradict each other"),
        ({"train_detail": [{"begin_offset": 0}]}, "leaves out train_detail of message 2"),
        ({"learn": False}, "leaves out learn of message 2"),
        ({"loss_scale": 2.0}, "leaves out loss_scale of message 2"),
    ],
)
def test_what_is_not_understood_is_refused(flags: dict[str, object], said_of_it: str) -> None:
    with pytest.raises(DataError, match=said_of_it):
        trained(chat(**flags))


@pytest.mark.parametrize("key", ["train", "weight", "loss"])
def test_flags_of_a_question(key: str) -> None:
    asked = {**ASK, key: True}
    with pytest.raises(DataError, match=r"message 1 is marked as trained.*(\n.*)*--train-on all"):
        trained([asked, said("assistant", "First.")])
    assert ASK["content"] in trained([asked, said("assistant", "First.")], "all")
    assert trained([{**ASK, key: False}, said("assistant", "First.")]) == "First.<|im_end|>"
