"""The form in which a chat template expects what a message holds, found by trying.

Templates differ: content as text or as a list of parts, the arguments of a tool call as an object
or as JSON text, no content as an empty text, as None or as no key at all, a tool bare or wrapped.
In the wrong form the same data vanishes without an error, or comes out quoted or as Python code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal, TypeAlias

Messages: TypeAlias = Sequence[Mapping[str, Any]]
Render: TypeAlias = Callable[[list[dict[str, Any]], list[Any]], str | None]
"""Messages and tools to text; None if the template rejects them."""

NAME, KEY, VALUE = "zq1name", "zq2key", "zq3value"
"""Words that no template has: what a template shows of a tool is found by them."""
TOOL = {
    "type": "function",
    "function": {
        "name": NAME,
        "description": "a tool",
        "parameters": {
            "type": "object",
            "properties": {KEY: {"type": "string", "description": "a text"}},
            "required": [KEY],
        },
    },
}
QUESTION = {"role": "user", "content": "zq4question"}
CALL = {
    "id": "callabcd1",  # some templates accept ids of nine letters only
    "type": "function",
    "function": {"name": NAME, "arguments": {KEY: VALUE}},
}
CALLS = {"role": "assistant", "content": "", "tool_calls": [CALL]}
_RESULT = {"role": "tool", "content": "zq5result", "tool_call_id": "callabcd1", "name": NAME}
_REASONING = ("reasoning_content", "reasoning", "thinking")
"""Names under which templates look for the reasoning; a message is given all of them."""

THINK = re.compile(r"(</?think>|\[/?THINK\])")
"""The tags of reasoning that is written into the content."""
_WITHIN = re.compile(r"\s*<think>\s*(.*?)\s*</think>\s*(.*)", re.DOTALL)


@dataclass(frozen=True)
class Forms:
    """How a template wants messages and tools.

    ``empty`` is what stands for no content at all. ``reasoning``: whether it shows the reasoning
    of a message; reasoning within the content is then given to it as such.
    """

    parts: bool = False
    reasoning: bool = False
    text_arguments: bool = False
    empty: Literal["text", "none", "absent"] = "text"
    bare_tools: bool = False

    def messages(self, messages: Messages) -> list[dict[str, Any]]:
        """The messages in this form."""
        return [self._message(message) for message in messages]

    def tools(self, tools: Sequence[Any]) -> list[Any]:
        """The tools in this form."""
        return [tool.get("function", tool) for tool in tools] if self.bare_tools else list(tools)

    def _message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        shaped = dict(message)
        content = shaped.get("content")
        if self.reasoning and message["role"] == "assistant" and isinstance(content, str):
            within = _WITHIN.fullmatch(content)
            if within and within[1].strip() and _REASONING[0] not in shaped:
                shaped |= {_REASONING[0]: within[1], "content": within[2]}
        calls = shaped.get("tool_calls")
        if calls and not shaped.get("content") and self.empty != "text":
            shaped["content"] = None
            if self.empty == "absent":
                del shaped["content"]
        elif self.parts and isinstance(shaped.get("content"), str):
            shaped["content"] = [{"type": "text", "text": shaped["content"]}]
        if isinstance(calls, list) and self.text_arguments:
            shaped["tool_calls"] = [_with_text_arguments(call) for call in calls]
        if _REASONING[0] in shaped:
            shaped |= {key: shaped.get(key, shaped[_REASONING[0]]) for key in _REASONING}
        return shaped


def find_forms(render: Render) -> Forms:
    """The forms in which everything comes out as it should; the usual ones where none does."""
    forms = Forms()
    plain: Messages = [QUESTION, {"role": "assistant", "content": "zq6answer"}]
    for parts in (False, True):
        tried = replace(forms, parts=parts)
        if _holds(render(tried.messages(plain), []), "zq4question", "zq6answer"):
            forms = tried
            break
    thinks = {"role": "assistant", "content": "zq6answer", _REASONING[0]: "zq7thought"}
    tried = replace(forms, reasoning=True)
    if _holds(render(tried.messages([QUESTION, thinks]), []), "zq6answer", "zq7thought"):
        forms = tried
    for bare in (False, True):
        tried = replace(forms, bare_tools=bare)
        if _holds(render(tried.messages(plain), tried.tools([TOOL])), NAME, KEY):
            forms = tried
            break
    chat: Messages = [QUESTION, CALLS, _RESULT]
    for empty, as_text in product(("text", "none", "absent"), (False, True)):
        tried = replace(forms, empty=empty, text_arguments=as_text)  # type: ignore[arg-type]
        text = render(tried.messages(chat), tried.tools([TOOL]))
        if _holds(text, NAME, KEY, VALUE) and _unquoted(text or ""):
            return tried
    return forms


def _holds(text: str | None, *marks: str) -> bool:
    return text is not None and all(mark in text for mark in marks)


def _unquoted(text: str) -> bool:
    """Whether the arguments are neither Python code nor JSON within a JSON text."""
    return f"'{KEY}'" not in text and f'\\"{KEY}' not in text and "None" not in text


def _with_text_arguments(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or isinstance(function.get("arguments", ""), str):
        return call
    text = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {**function, "arguments": text}}
