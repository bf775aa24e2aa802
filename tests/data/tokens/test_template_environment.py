"""Templates render as in transformers, which is for what they are written, and as safely."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

import numpy as np
import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from lorita.data.tokens.chat_template import ChatTemplate, TemplateError
from lorita.data.tokens.choose_template import FOLDER
from tests.data.tokens.template_cases import CASES

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"b": 1, "a": ["é", "<"]}}}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"x": 1}}}
QUESTION, ANSWER = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}
CHATS = {
    "a question": [QUESTION],
    "two answers": [QUESTION, ANSWER, QUESTION, ANSWER],
    "a system message": [{"role": "system", "content": " Be brief. "}, QUESTION, ANSWER],
    "a call": [QUESTION, {"role": "assistant", "content": "", "tool_calls": [CALL]}],
    "parts": [QUESTION, {**ANSWER, "content": [{"type": "text", "text": "a"}]}],
}  # fmt: skip
SOURCES = {
    **{name: case.source for name, case in CASES.items()},
    **{file.stem: file.read_text(encoding="utf-8") for file in sorted(FOLDER.glob("*.jinja"))},
    "json": "{{ tools|tojson }}{{ tools|tojson(indent=2) }}{{ tools|tojson(sort_keys=true) }}"
    "{{ messages|tojson(separators=(',', ':')) }}{{ 'é'|tojson(ensure_ascii=true) }}",
    "namespace and dict": "{% set n = namespace(self='a', b=1) %}{% set n.b = 2 %}"
    "{{ n.b ~ n.self }}"
    "{{ dict(a=1)|tojson }}{{ dict.fromkeys([1, 2])|tojson }}{{ dict.fromkeys('ab', 0)|tojson }}",
    "loop controls": "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}"
    "{% if m.role == 'user' %}{% continue %}{% endif %}{{ m.content }}{% endfor %}",
    "a year": "{{ strftime_now('%Y') }}",
    "refusing": "{{ raise_exception('no') }}",
    "white space": "{% if true %}\n  a\n  {% endif %}\n b",
    "marks in a macro": "{% macro m(x) %}{{ x }}{% endmacro %}{% for m_ in messages %}a"
    "{% generation %}{{ m(m_.role) }}\n{%- endgeneration %}b{% endfor %}",
    "marks and nothing": "{% generation %}{% endgeneration %}{{ bos_token }}{% generation %}x"
    "{% endgeneration %}",
    "undefined": "{{ nothing }}{{ documents is none }}{{ tools is none }}{{ nothing.more }}",
    "a name of Python": "{% set n = namespace(__init__=1) %}",
    "a later name of Python": "{% set n = namespace() %}{% set n.__class__ = 1 %}",
    "classes of dict": "{{ dict.mro() }}",
    "globals": "{{ raise_exception.__globals__ }}{{ ''.__class__ }}",
    "changing a list": "{{ messages.append(1) }}",
}  # fmt: skip


def _theirs(source: str, chat: Any, tools: Any, **how: bool) -> tuple[str, Any] | None:
    try:
        texts, marks = render_jinja_template(
            [chat], tools=tools, chat_template=source, **how, **SPECIAL
        )
    except Exception:
        return None
    return texts[0], [tuple(mark) for mark in marks[0]] if marks else []


def _ours(source: str, chat: Any, tools: Any, *, ask: bool) -> tuple[str, Any] | None:
    try:
        return ChatTemplate("a", source, SPECIAL)._render(chat, tools or [], [], ask=ask)
    except TemplateError:
        return None


@pytest.mark.parametrize("name", SOURCES)
def test_a_template_renders_as_in_transformers(name: str) -> None:
    for chat in CHATS.values():
        for tools in (None, [TOOL]):
            for ask in (False, True):
                theirs = _theirs(SOURCES[name], chat, tools, add_generation_prompt=ask)
                ours = _ours(SOURCES[name], chat, tools, ask=ask)
                assert (ours and ours[0]) == (theirs and theirs[0])
            marked = _theirs(SOURCES[name], chat, tools, return_assistant_tokens_mask=True)
            if "generation" in SOURCES[name]:
                assert _ours(SOURCES[name], chat, tools, ask=False) == marked


@dataclass
class Point:
    """A user's own type."""

    x: int
    inner: Any = None


class Colour(str, Enum):
    """A text that is more than one."""

    RED = "red"


class Model:
    """What pydantic's models look like."""

    def model_dump(self) -> dict[str, int]:
        """The fields."""
        return {"y": 2}


@pytest.mark.parametrize(
    "value",
    [
        Point(1, [Point(2)]), Colour.RED, Model(), np.int64(3), np.bool_(False), np.array([1, 2]),
        np.array(5), datetime(2020, 1, 1), (1, (2, [3])), OrderedDict(a={"b": None}), True, 1.5,
        b"bytes", {1, 2}, None,
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_template_sees_plain_values_only(value: Any) -> None:
    source = "{{ messages[0].extra }}|{{ messages[0].extra is none }}{{ messages[0].extra|string }}"
    chat = [{**QUESTION, "extra": value}]
    ours, theirs = (_ours(source, chat, None, ask=False), _theirs(source, chat, None))
    assert ours is not None
    assert ours == theirs


@pytest.mark.parametrize("name", ["reasoning", "thinking", "reasoning_content"])
def test_reasoning_is_found_under_each_of_its_names(name: str) -> None:
    source = "{% for m in messages %}{{ m.thinking }},{{ m.reasoning_content }};{% endfor %}"
    chat = [QUESTION, {**ANSWER, name: "because"}, {**ANSWER, "thinking": "b", name: "a"}]
    assert _ours(source, chat, None, ask=False) == _theirs(source, chat, None)


@pytest.mark.parametrize("tools", [["add"], [1], [[TOOL]]])
def test_what_is_no_object_is_refused(tools: Any) -> None:
    with pytest.raises(TemplateError, match="a tool is not an object"):
        ChatTemplate("a", "{{ tools }}", SPECIAL)._render([QUESTION], tools, [])
