"""Calls are found in the form in which a template writes them, whole or in pieces."""

from __future__ import annotations

import json

import pytest

from lorita.data.tokens.chat_template import ChatTemplate
from lorita.serving.tool_calls import CallForm, CallReader, call_form
from tests.serving.conftest import TEMPLATE, TOOLS

HEAD = (
    "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}<|{{ m.role }}|>"
)
TAIL = "<eos>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
LLAMA = (
    HEAD
    + (
        '{% if m.tool_calls %}{{ \'{"name": "\' + m.tool_calls[0].function.name + \'", '
        '"parameters": \' }}{{ m.tool_calls[0].function.arguments | tojson }}}'
        "{% else %}{{ m.content }}{% endif %}"
    )
    + TAIL
)
MISTRAL = (
    HEAD
    + (
        "{% if m.tool_calls %}[TOOL_CALLS] [{% for c in m.tool_calls %}"
        "{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}{% endfor %}]"
        "{% else %}{{ m.content }}{% endif %}"
    )
    + TAIL
)
PYTHON = (
    HEAD
    + (
        "{% if m.tool_calls %}{{ m.tool_calls[0].function.name }}(x=1){% else %}{{ m.content }}"
        "{% endif %}"
    )
    + TAIL
)
FORMS = {
    "hermes": (TOOLS, CallForm("<tool_call>", "</tool_call>")),
    "llama": (LLAMA, CallForm("")),
    "mistral": (MISTRAL, CallForm("[TOOL_CALLS]")),
    "python": (PYTHON, None),
    "none": (TEMPLATE, None),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_form_is_the_templates(name: str) -> None:
    source, expected = FORMS[name]
    assert call_form(ChatTemplate(name, source, {"eos_token": "<eos>"})) == expected


CALL = '{"name": "look", "arguments": {"at": "a \\"}] <tool_call> b"}}'
ANSWERS = [
    (CallForm("<tool_call>", "</tool_call>"), f"Let me see.<tool_call>\n{CALL}\n</tool_call>", 1),
    (CallForm("<tool_call>", "</tool_call>"),
     f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>", 2),
    (CallForm("<tool_call>", "</tool_call>"), f"<tool_call>{CALL}", 1),
    (CallForm("[TOOL_CALLS]"), f"[TOOL_CALLS] [{CALL}, {CALL}]", 2),
    (CallForm(""), CALL.replace("arguments", "parameters"), 1),
    (CallForm("<tool_call>"), "no call at all, <tool", 0),
    (CallForm("<tool_call>"), "<tool_call>no JSON", 0),
    (CallForm("<tool_call>"), CALL and '<tool_call>{"name": "unknown", "arguments": {}}', 0),
    (CallForm("<tool_call>"), f"```json\n{CALL}\n```", 1),
    (CallForm("<tool_call>"), f"```\n[{CALL}, {CALL}]\n```\n", 2),
    (CallForm("[TOOL_CALLS]"), f"{CALL}\n{CALL}", 2),
    (CallForm(""), f"```json\n{CALL}\n```", 1),
    (CallForm("<tool_call>"), f"```json\n{CALL}\n```\nThat is how.", 0),
    (CallForm("<tool_call>"), '```json\n{"a": 1}\n```', 0),
    (CallForm("<tool_call>"), "```python\nprint({})\n```", 0),
    (CallForm("<tool_call>"), "[1, 2] <tool_call>", 0),
    (CallForm("<tool_call>"), "", 0),
    (CallForm(""), "just text {", 0),
    (CallForm(""), '{"a": 1}', 0),
    (CallForm(""), "", 0),
]  # fmt: skip


@pytest.mark.parametrize(("form", "text", "count"), ANSWERS)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_calls_are_read(form: CallForm, text: str, count: int, size: int) -> None:
    reader = CallReader(form, ("look",))
    shown = "".join(reader.add(text[i : i + size]) for i in range(0, len(text), size))
    rest, calls = reader.end()
    assert len(calls) == count
    if not count:
        assert shown + rest == text
    else:
        assert shown + rest == text[: text.find("<tool_call>")] * text.startswith("Let")
    for call in calls:
        assert call["function"]["name"] == "look"
        assert json.loads(call["function"]["arguments"]) == json.loads(CALL)["arguments"]
    assert len({call["id"] for call in calls}) == count


def test_text_that_cannot_become_a_call_is_shown_at_once() -> None:
    for text in ("Hello", "```py", " `x", "```\nx"):
        assert CallReader(CallForm("<tool_call>"), ("look",)).add(text) == text
