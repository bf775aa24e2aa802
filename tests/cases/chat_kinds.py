"""Chats of every kind, and what must be true of them under any chat template.

The templates are those that TRL ships, read from the installed package, lorita's own, and a few
written here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from lorita.data.examples import IGNORE, Example
from lorita.data.formats.chats import read_chat
from lorita.data.row_errors import Problems
from lorita.data.rows import Chat
from lorita.data.tokens.asking import ask_alike
from lorita.data.tokens.chat_template import ChatTemplate
from lorita.data.tokens.choose_template import FOLDER
from lorita.data.tokens.prompt_format import PromptFormat
from lorita.data.tokens.tokenize import Treatment, encode_rows
from lorita.data.tokens.tokenizer_template import template_from
from tests.data.tokens.tokenizers import make


def tool(name: str, argument: str) -> dict[str, Any]:
    """A tool with one argument, as OpenAI and transformers write it."""
    properties = {argument: {"type": "string", "description": f"the {argument} asked for"}}
    schema = {"type": "object", "properties": properties, "required": [argument]}
    said = {"name": name, "description": f"Looks up {name} somewhere.", "parameters": schema}
    return {"type": "function", "function": said}


def call(name: str, number: int, **arguments: object) -> dict[str, Any]:
    """A call of a tool; the id has the nine letters that some templates insist on."""
    function = {"name": name, "arguments": arguments}
    return {"id": f"callid00{number}", "type": "function", "function": function}


def said(role: str, content: str | None, **more: object) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


ASK, ANSWER = said("user", "How warm is Lima?"), said("assistant", "It is mild in Lima.")
MORE = [said("user", "And Oslo?"), said("assistant", "Colder, near zero.")]
SYSTEM = said("system", "Answer like a sailor.")
CALLS = said("assistant", None, tool_calls=[call("weather", 1, town="Lima")])
RESULT = said("tool", '{"degrees": 19}', tool_call_id="callid001", name="weather")
THINKS = said("assistant", "It is mild in Lima.", reasoning_content="The coast keeps it even.")
TOOLS = [tool("weather", "town"), tool("clock", "zone")]

KINDS: dict[str, dict[str, Any]] = {
    "plain": {"messages": [ASK, ANSWER]},
    "system": {"messages": [SYSTEM, ASK, ANSWER]},
    "several turns": {"messages": [ASK, ANSWER, *MORE]},
    "tools": {"messages": [ASK, ANSWER], "tools": TOOLS},
    "tool calls": {"messages": [ASK, CALLS, RESULT, ANSWER, *MORE], "tools": TOOLS},
    "two calls at once": {
        "messages": [
            ASK,
            said(
                "assistant",
                "I look it up.",
                tool_calls=[call("weather", 1, town="Lima"), call("clock", 2, zone="west")],
            ),
            RESULT,
            said("tool", "noon", tool_call_id="callid002", name="clock"),
            ANSWER,
        ],
        "tools": TOOLS,
    },
    "reasoning": {"messages": [ASK, THINKS]},
    "reasoning in turns": {
        "messages": [ASK, THINKS, MORE[0], {**MORE[1], "reasoning_content": "It lies far north."}]
    },
    "reasoning in the text": {
        "messages": [ASK, said("assistant", "<think>\nThe coast.\n</think>\n\nIt is mild in Lima.")]
    },
    "reasoning and calls": {
        "messages": [ASK, {**CALLS, "reasoning_content": "I must look."}, RESULT, THINKS],
        "tools": TOOLS,
    },
    "names": {"messages": [{**ASK, "name": "Marta"}, ANSWER]},
}


@cache
def templates() -> dict[str, str]:
    """The sources of all templates, by name."""
    found = {f"lorita {path.stem}": path.read_text("utf-8") for path in FOLDER.glob("*.jinja")}
    spec = find_spec("trl")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "chat_templates"
        found |= {f"trl {path.stem}": path.read_text("utf-8") for path in folder.glob("*.jinja")}
    return dict(sorted(found.items()))


@cache
def tokenizer_of(source: str) -> PreTrainedTokenizerFast:
    """A small tokenizer in which everything that looks like a control token is one."""
    marks = re.findall(r"<[|｜][^<>'\"{}\s]+[|｜]?>|<\w+\|>|</?s>|<\w+_of_\w+>|\[/?INST\]", source)
    return make("bytes", tuple(sorted({*marks, "<|user|>", "<|assistant|>"})), bos="<bos>")


@cache
def template_of(source: str) -> ChatTemplate:
    """The template with the special tokens of its tokenizer."""
    return template_from(tokenizer_of(source), source)


@dataclass(frozen=True)
class Outcome:
    """The examples of a row, the template as it was used, and what lorita said."""

    tokenizer: PreTrainedTokenizerFast
    template: ChatTemplate
    chat: Chat
    examples: list[Example]
    left_out: list[str]
    refused: list[str]


def outcome(source: str, row: Mapping[str, Any], train_on: str | None = None) -> Outcome:
    """A row read, rendered and tokenised as training does it."""
    tokenizer, wrong = tokenizer_of(source), list[str]()
    chat = read_chat(row["messages"], wrong.append, tools=row.get("tools"))
    template, _ = ask_alike(template_of(source), [chat])
    problems = Problems("rows")
    how = Treatment(100_000, template, train_on)
    rows = encode_rows([chat], [0], how.encoder(tokenizer), how, problems)
    examples = [row.example for row in rows]
    return Outcome(
        tokenizer, template, chat, examples, list(problems.left_out), [*wrong, *problems.found]
    )


def runs(example: Example) -> list[tuple[int, int]]:
    """The runs of consecutive trained tokens."""
    trained = [label != IGNORE for label in example.labels]
    edges = [i for i in range(len(trained) + 1) if _at(trained, i) != _at(trained, i - 1)]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _at(values: list[bool], i: int) -> bool:
    return 0 <= i < len(values) and values[i]


def check(found: Outcome) -> None:
    """Each answer is trained once, after what generation would put there, with all its fields."""
    tokenizer = found.tokenizer
    form = PromptFormat("chat", found.template, control_tokens="text")
    answers = [i for i, m in enumerate(found.chat.messages) if m.role == "assistant"]
    trained = [(example, *run) for example in found.examples for run in runs(example)]
    assert len(trained) == len(answers), (len(trained), answers)
    for i, (example, start, end) in zip(answers, trained, strict=True):
        before = [message.as_dict() for message in found.chat.messages[:i]]
        assert example.input_ids[:start] == form.chat_ids(tokenizer, before, found.chat.tools)
        text = tokenizer.decode(example.input_ids[start:end])
        for value in values(found.chat.messages[i].as_dict()):
            assert value in text or value in found.left_out, (value, text)
        assert "And Oslo?" not in text
        ends = (found.template.end_of_turn, found.template.inner_end, "</s>")
        assert text.endswith(ends) or "tool_calls" in found.chat.messages[i].extra, text
    everything = "".join(tokenizer.decode(example.input_ids) for example in found.examples)
    everything += everything.replace('\\"', '"')  # some templates quote what a tool says
    for message in found.chat.messages:
        for value in values({k: v for k, v in message.as_dict().items() if k != "name"}):
            assert value in everything
    for name in [n for t in found.chat.tools for n in (t["function"]["name"], "asked for")]:
        assert name in everything


def values(message: Mapping[str, Any]) -> list[str]:
    """All texts of a message that a model has to read or to write."""
    found = [message["content"]] if message["content"] else []
    found += [message[key] for key in ("reasoning_content", "name") if key in message]
    for made in message.get("tool_calls", []):
        found.append(made["function"]["name"])
        found += [part for pair in made["function"]["arguments"].items() for part in pair]
    return [part for text in found for part in re.split(r"\s*</?think>\s*", text) if part]
