"""Nothing of a chat vanishes: each field is shown by the template, or the row is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorita.data.formats.choose_format import Wanted
from lorita.data.formats.readers import read_rows
from lorita.data.rows import Chat
from lorita.data.sources.load_source import load_source
from lorita.data.sources.python_rows import rows_source
from lorita.data.tokens.choose_template import choose_template
from lorita.data.tokens.tokenize import Treatment, tokenize_rows
from lorita.data.tokens.tokenizer_template import template_from
from lorita.errors import DataError
from tests.cases.chat_kinds import ANSWER, ASK, CALLS, RESULT, THINKS, TOOLS, call, said, tool
from tests.data.tokens.tokenizers import make

IM = ("<|im_start|>", "<|im_end|>")
HEAD = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
TAIL = (
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
BARE = HEAD + "{{ m.content or '' }}" + TAIL
"""Shows roles and contents only."""
LISTED = "{{ tools | tojson if tools else '' }}"
CALLING = (
    LISTED
    + HEAD
    + "{{ m.content or '' }}{% for c in m.tool_calls or [] %}{{ '<call>' + c.function.name + ' ' }}"
    "{{ ARGUMENTS }}{{ '</call>' }}{% endfor %}" + TAIL
)
AS_JSON = CALLING.replace("ARGUMENTS", "c.function.arguments | tojson")
JOINED = CALLING.replace("{{ ARGUMENTS }}", "{{ '' + c.function.arguments }}")
PRINTED = CALLING.replace("ARGUMENTS", "c.function.arguments")
ONLY_WITHOUT_CONTENT = AS_JSON.replace("m.tool_calls or []", "m.tool_calls if m.content is none")
ONLY_WITHOUT_CONTENT = ONLY_WITHOUT_CONTENT.replace(
    "{% for c in m.tool_calls if m.content is none %}",
    "{% for c in (m.tool_calls if m.content is none else []) %}",
)
PARTS = HEAD + "{% for p in m.content %}{{ p['text'] }}{% endfor %}" + TAIL


def trained_text(rows: list[dict[str, Any]], template: str, **wanted: Any) -> list[str]:
    """The texts of the examples that training would see."""
    tokenizer = make("bytes", IM)
    read = read_rows(rows_source(rows, "rows"), Wanted(**wanted))
    tokenizer.chat_template = template
    try:
        chosen, _ = choose_template(tokenizer, None, read.kind, read.rows)
    finally:
        tokenizer.chat_template = None  # the tokenizer is shared
    made = tokenize_rows(
        list(read.rows), range(len(read.rows)), tokenizer, Treatment(9999, chosen), origin="rows"
    )
    return [str(tokenizer.decode(example.input_ids)) for example in made.examples]


def row(*messages: dict[str, Any], **beside: Any) -> list[dict[str, Any]]:
    return [{"messages": list(messages), **beside}]


PLAIN_CALL = said("assistant", None, tool_calls=[call("weather", 1, town="Lima")])
LOST: dict[str, tuple[list[dict[str, Any]], str]] = {
    "a tool call": (row(ASK, CALLS, RESULT, ANSWER), "tool_calls of message 2"),
    "tools": (row(ASK, ANSWER, tools=TOOLS), "tools"),
    "tools under another name": (row(ASK, ANSWER, functions=TOOLS), "tools"),
    "an old function call": (
        row(ASK, said("assistant", None, function_call={"name": "f", "arguments": "{}"})),
        "tool_calls of message 2",
    ),
    "reasoning": (row(ASK, THINKS), "reasoning_content of message 2"),
    "thinking": (row(ASK, {**ANSWER, "thinking": "Hm."}), "reasoning_content of message 2"),
    "a part of reasoning": (
        row(
            said("user", [{"type": "text", "text": "Hi"}]),
            said(
                "assistant", [{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "a"}]
            ),
        ),
        "reasoning_content of message 2",
    ),
    "a name": (row({**ASK, "name": "Marta"}, ANSWER), "name of message 1"),
    "a refusal": (row(ASK, said("assistant", None, refusal="No.")), "refusal of message 2"),
    "an unknown key": (row(ASK, {**ANSWER, "mood": "glad"}), "mood of message 2"),
    "an unknown number": (row(ASK, {**ANSWER, "loss_scale": 0.5}), "loss_scale of message 2"),
    "documents": (row(ASK, ANSWER, documents=[{"title": "t", "text": "Lima"}]), "documents"),
    "a citation in a later turn": (
        row(ASK, ANSWER, ASK, {**ANSWER, "citation": "p. 3"}),
        "citation of message 4",
    ),
}


@pytest.mark.parametrize("case", LOST)
def test_what_a_template_does_not_show_is_refused(case: str) -> None:
    rows, place = LOST[case]
    with pytest.raises(DataError) as refused:
        trained_text(rows, BARE)
    assert f"the chat template leaves out {place}" in str(refused.value)


@pytest.mark.parametrize("case", ["a tool call", "tools", "reasoning", "an old function call"])
def test_the_hint_names_a_template_that_shows_everything(case: str) -> None:
    rows, _ = LOST[case]
    with pytest.raises(DataError, match="--chat-template chatml") as refused:
        trained_text(rows, BARE)
    assert "alpaca" not in str(refused.value) and "mistral" not in str(refused.value)


@pytest.mark.parametrize("case", ["an unknown key", "documents", "a citation in a later turn"])
def test_the_hint_names_no_template_that_loses_it(case: str) -> None:
    with pytest.raises(DataError, match="--chat-template FILE"):
        trained_text(LOST[case][0], BARE)


def test_fields_can_be_left_out_on_request() -> None:
    rows = row({**ASK, "name": "Marta"}, {**THINKS, "mood": "glad"}, tools=TOOLS)
    keys = ("name", "mood", "reasoning_content", "tools")
    assert "Marta" not in trained_text(rows, BARE, ignore_fields=keys)[0]


def test_a_field_that_the_template_shows_last_only_is_trained_there() -> None:
    thought = "{{ '<think>' + m.reasoning_content if loop.last and m.reasoning_content else '' }}"
    rows = row(ASK, THINKS, ASK, {**THINKS, "reasoning_content": "Once more."})
    first, second = trained_text(rows, HEAD + thought + "{{ m.content }}" + TAIL)
    assert "keeps it even" in first and "keeps it even" not in second and "Once more" in second


@pytest.mark.parametrize("template", [AS_JSON, JOINED, ONLY_WITHOUT_CONTENT, PRINTED])
@pytest.mark.parametrize("as_text", [False, True])
def test_arguments_come_out_as_json_whatever_the_template_wants(
    template: str, as_text: bool
) -> None:
    function: dict[str, Any] = {"name": "weather", "arguments": {"town": "Lima", "days": 2}}
    if as_text:
        function["arguments"] = json.dumps(function["arguments"])
    calls = said("assistant", None, tool_calls=[{"type": "function", "function": function}])
    text = trained_text(row(ASK, calls, RESULT, ANSWER, tools=TOOLS), template)[0]
    assert '<call>weather {"town": "Lima", "days": 2}</call>' in text


def test_null_in_arguments_of_json_text_stays() -> None:
    function = {"name": "weather", "arguments": '{"town": null}'}
    calls = said("assistant", "", tool_calls=[{"type": "function", "function": function}])
    text = trained_text(row(ASK, calls, RESULT, ANSWER, tools=TOOLS), AS_JSON)[0]
    assert '{"town": null}' in text


def test_a_template_for_parts_is_given_parts() -> None:
    assert "Lima" in trained_text(row(ASK, ANSWER), PARTS)[0]
    parts = [{"type": "text", "text": "How warm?", "image": ""}]
    assert "How warm?" in trained_text(row(said("user", parts), ANSWER), BARE)[0]


def test_several_templates_of_a_tokenizer(tmp_path: Path) -> None:
    templates: Any = {"default": BARE, "tool_use": AS_JSON, "rag": BARE}
    with_tools = trained_text(row(ASK, CALLS, RESULT, ANSWER, tools=TOOLS), templates)[0]
    assert '<call>weather {"town": "Lima"}</call>' in with_tools
    assert trained_text(row(ASK, ANSWER), templates) == trained_text(row(ASK, ANSWER), BARE)
    tokenizer = make("bytes", IM)
    tokenizer.chat_template = templates
    try:
        chosen, _ = choose_template(tokenizer, "tool_use", "chat")
        assert chosen is not None and chosen.source == AS_JSON
        with pytest.raises(DataError, match="did you mean tool_use"):
            choose_template(tokenizer, "tooluse", "chat")
    finally:
        tokenizer.chat_template = None


NOT_TEXT = {
    "an image beside an empty text": {"type": "image", "text": "", "image": "a.png"},
    "an image url": {"type": "image_url", "image_url": {"url": "a.png"}},
    "audio": {"type": "input_audio", "input_audio": {"data": "aa"}},
    "a video without a type": {"video": "a.mp4"},
    "a text that brings an image": {"type": "text", "text": "Look", "image": "a.png"},
    "an unknown kind": {"type": "holo", "text": "Look"},
}


@pytest.mark.parametrize("case", NOT_TEXT)
def test_parts_that_are_not_text_are_refused(case: str, tmp_path: Path) -> None:
    content = [NOT_TEXT[case], {"type": "text", "text": "What is it?"}]
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row(said("user", content), ANSWER)[0]) + "\n")
    with pytest.raises(DataError, match="message 1: its content has parts that are not text"):
        read_rows(load_source(str(file)))


@pytest.mark.parametrize("column", ["images", "audio", "videos", "chat_template_kwargs"])
def test_columns_that_cannot_be_trained_are_refused(column: str) -> None:
    rows = row(ASK, ANSWER, **{column: ["a"]})
    with pytest.raises(DataError, match=f"--ignore-fields {column}"):
        trained_text(rows, BARE)
    assert trained_text(rows, BARE, ignore_fields=(column,))


def shared(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"from": role, "value": value} for role, value in turns]


ROLES_AS_KEYS = {
    "in one": [{"human": "Warm?", "assistant": "Yes."}, {"human": "Where?", "assistant": "Lima."}],
    "in turn": [{"user": "Warm?"}, {"assistant": "Yes."}, {"user": "Where?"}, {"bot": "Lima."}],
    "with a system": [
        {"system": "Brief.", "user": "Warm?", "assistant": "Yes."},
        {"system": None, "user": "Where?", "assistant": "Lima."},
    ],
    "mixed": [
        {"from": "human", "value": "Warm?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "value": "Where?"},
        {"from": "gpt", "content": "Lima."},
    ],
}


@pytest.mark.parametrize("case", ROLES_AS_KEYS)
def test_keys_of_other_tools(case: str) -> None:
    text = trained_text([{"conversation": ROLES_AS_KEYS[case]}], BARE)[0]
    assert "assistant\nYes.<|im_end|>\n<|im_start|>user\nWhere?<|im_end|>" in text


CALL_TEXT = '{"name": "weather", "arguments": {"town": "Lima"}}'
SHARED = {
    "function_call": shared(
        ("human", "Warm?"), ("function_call", CALL_TEXT), ("observation", "19"), ("gpt", "Yes.")
    ),
    "tool_call": shared(
        ("user", "Warm?"), ("tool_call", CALL_TEXT), ("tool_response", "19"), ("assistant", "Yes.")
    ),
    "a list of calls": shared(
        ("human", "Warm?"), ("function-call", f"[{CALL_TEXT}]"), ("tool", "19"), ("gpt", "Yes.")
    ),
}


@pytest.mark.parametrize("case", SHARED)
def test_calls_of_sharegpt(case: str) -> None:
    bare = [tool("weather", "town")["function"]]
    for tools in (json.dumps(bare), [json.dumps(bare[0])]):
        rows = [{"conversations": SHARED[case], "tools": tools}]
        text = trained_text(rows, AS_JSON)[0]
        assert '<call>weather {"town": "Lima"}</call>' in text and '"type": "function"' in text


def test_calls_in_turns_of_their_own_are_one_turn() -> None:
    calls = (("tool_call", CALL_TEXT), ("tool_call", CALL_TEXT.replace("Lima", "Oslo")))
    turns = shared(("human", "Warm?"), *calls, ("tool", "1"), ("gpt", "Yes."))
    chat = read_rows(rows_source([{"conversations": turns}], "rows")).rows[0]
    assert isinstance(chat, Chat)
    assert [len(m.extra.get("tool_calls", ())) for m in chat.messages] == [0, 2, 0, 0]


def test_a_call_that_is_not_json_is_refused() -> None:
    turns = shared(("human", "Warm?"), ("function_call", "weather of Lima"), ("gpt", "Yes."))
    with pytest.raises(DataError, match="message 2: a tool call must be JSON"):
        read_rows(rows_source([{"conversations": turns}], "rows"))


def test_absent_fields_of_a_table_are_absent(tmp_path: Path) -> None:
    from datasets import Dataset

    rows = [*row(ASK, {**ANSWER, "mood": None, "tool_calls": None, "name": ""}), *row(ASK, ANSWER)]
    Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    read = read_rows(load_source(str(tmp_path / "rows.parquet")))
    assert all(not m.extra for chat in read.rows if isinstance(chat, Chat) for m in chat.messages)


def test_rows_given_in_python_keep_the_types_of_their_parts() -> None:
    """A table would need one type for each part: 1 would become 1.0, a text or a list refused."""
    rows = [
        *row(ASK, {**CALLS, "tool_calls": [call("f", 1, n=1)]}, RESULT, ANSWER, tools=TOOLS),
        *row(ASK, {**CALLS, "tool_calls": [call("f", 1, n=2.5)]}, RESULT, ANSWER, tools=TOOLS),
        *row(said("user", [{"type": "text", "text": "Hi"}]), ANSWER, tools=TOOLS),
    ]
    first, second, _ = trained_text(rows, AS_JSON)
    assert '<call>f {"n": 1}</call>' in first and '<call>f {"n": 2.5}</call>' in second


def test_bookkeeping_is_left_out_and_said() -> None:
    tokenizer, seen = make("bytes", IM), {"id": "m1", "timestamp": "noon", "model": "x"}
    rows = read_rows(rows_source(row({**ASK, **seen}, {**ANSWER, **seen}), "rows")).rows
    how = Treatment(9999, template_from(tokenizer, BARE))
    made = tokenize_rows(list(rows), [0], tokenizer, how, origin="rows")
    assert dict(made.left_out) == dict.fromkeys(seen, 1)
