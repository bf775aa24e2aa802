"""One message of a chat: its role, text, reasoning, tool calls, and whether it is trained.

Nothing of a message is dropped here: a key that means nothing to lorita stays in ``extra``, and
whether the chat template shows it is checked when the chat is rendered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from lorita.data.rows import Message

Complain = Callable[[str], None]

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool_calls": "assistant",
    "tool": "tool",
    "ipython": "tool",
    "function": "tool",
    "function_response": "tool",
    "function_result": "tool",
    "tool_response": "tool",
    "tool_result": "tool",
    "tool_output": "tool",
    "observation": "tool",
}
"""The names of roles in files, and those that chat templates use."""
CALL_ROLES = ("function_call", "tool_call", "tool_calls")
"""Roles of turns whose text is a tool call as JSON."""
ROLE_KEYS, CONTENT_KEYS = ("role", "from"), ("content", "value", "text")
REASONING = "reasoning_content"
REASONING_KEYS = (REASONING, "reasoning", "thinking", "thought")
"""Names of the reasoning before an answer; the first is the one used here."""
TRAINED_IF, MUTED_IF = ("weight", "train", "training", "trainable", "loss"), ("masked",)
"""Keys that say whether a turn is trained, and those that say the opposite; templates do not see
them."""
TRUTH = {"0": False, "false": False, "0.0": False, "1": True, "true": True, "1.0": True}
TEXT_PARTS = ("text", "input_text", "output_text")
REASONING_PARTS = ("thinking", "reasoning")
SILENT_IN_PARTS = ("type", "text", "cache_control", "annotations")
"""Keys of a text part that are its text, or not meant for the model."""


def read_message(
    turn: object, number: int, complain: Complain, ignored: Collection[str] = ()
) -> Message | None:
    """The message in a turn; None if it has no role. ``ignored`` keys are left out."""
    where = f"message {number}"
    if not isinstance(turn, Mapping):
        complain(f"{where}: expected an object, found {type(turn).__name__}")
        return None
    given = {key: value for key, value in without_none(turn).items() if key not in ignored}
    said = next((given.pop(key) for key in ROLE_KEYS if key in given), None)
    kind = str(said).lower().replace("-", "_")
    role = ROLES.get(kind)
    if role is None:
        names = ", ".join(dict.fromkeys(ROLES.values()))
        complain(
            f"{where} has no role" if said is None else f"{where}: unknown role {said!r} ({names})"
        )
    content = next((given.pop(key) for key in CONTENT_KEYS if key in given), None)
    given = {key: value for key, value in given.items() if value not in ("", [], {})}
    if kind in CALL_ROLES:
        given["tool_calls"], content = _calls_in(content, where, complain), None
    text, thought = _text_and_reasoning(content, where, complain)
    _name_reasoning(given, thought)
    _name_calls(given)
    flag = _flag(given, where, complain)
    if role != "assistant" and content is None:
        complain(f"{where} has no content")
    elif role == "assistant" and not text.strip() and not _says_more(given):
        complain(f"{where}: the assistant turn is empty")
    asked_for = flag is True and role != "assistant"
    return Message(role, text, flag is False, given, asked_for) if role else None


def without_none(value: Any) -> Any:
    """The value without keys that are None: tables add every key of the other rows."""
    if isinstance(value, Mapping):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return [without_none(item) for item in value] if isinstance(value, list) else value


def from_json(value: object) -> Any:
    """A text that is a JSON object or list, decoded; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def _says_more(given: Mapping[str, Any]) -> bool:
    return any(given.get(key) for key in ("tool_calls", "refusal", REASONING))


def _text_and_reasoning(content: object, where: str, complain: Complain) -> tuple[str, str]:
    """The content as text, and the reasoning among its parts."""
    if content is None or isinstance(content, str):
        return content or "", ""
    if not isinstance(content, list):
        complain(f"{where}: its content is not text (found {type(content).__name__})")
        return "", ""
    text, thought, other = "", "", []
    for part in content:
        kind, said = _part(part)
        if kind == "text":
            text += said
        elif kind == "reasoning":
            thought += said
        else:
            other.append(kind)
    if other:
        kinds = ", ".join(dict.fromkeys(other))
        complain(
            f"{where}: its content has parts that are not text ({kinds}); lorita trains on text "
            "only"
        )
    return text, thought


def _part(part: object) -> tuple[str, str]:
    """What a part of a content list is: text, reasoning, or the name of something else."""
    if isinstance(part, str):
        return "text", part
    if not isinstance(part, Mapping):
        return type(part).__name__, ""
    given = {key: value for key, value in part.items() if value not in (None, "", [], {})}
    kind = str(part.get("type") or ("text" if "text" in given else next(iter(given), "empty")))
    if kind in REASONING_PARTS:
        said = next((given[key] for key in (*REASONING_PARTS, "text") if key in given), "")
        return ("reasoning", said) if isinstance(said, str) else (kind, "")
    more = [key for key in given if key not in SILENT_IN_PARTS]
    said = part.get("text") or ""
    if kind not in TEXT_PARTS or more or not isinstance(said, str):
        return (", ".join(more) if kind in TEXT_PARTS and more else kind), ""
    return "text", said


def _name_reasoning(given: dict[str, Any], thought: str) -> None:
    """Put the reasoning under one key; a second, different one stays under its own."""
    for key in REASONING_KEYS:
        said = given.get(key)
        if isinstance(said, str) and (not thought or said == thought):
            thought = given.pop(key)
    if thought:
        given[REASONING] = thought


def _name_calls(given: dict[str, Any]) -> None:
    """Put tool calls into OpenAI's form, their arguments decoded from JSON text."""
    calls = from_json(given.get("tool_calls") or [])
    old = from_json(given.pop("function_call", None))
    calls = [calls] if isinstance(calls, Mapping) else calls
    calls = [*calls, old] if isinstance(calls, list) and old else calls
    if calls:
        given["tool_calls"] = [_call(c) for c in calls] if isinstance(calls, list) else calls


def _call(call: object) -> object:
    """A call as ``{"type": "function", "function": {"name": …, "arguments": …}}``."""
    call = from_json(call)
    if not isinstance(call, Mapping):
        return call
    if not isinstance(call.get("function"), Mapping):
        if "name" not in call:
            return call
        beside = {key: value for key, value in call.items() if key in ("id", "type", "index")}
        call = beside | {"function": {k: v for k, v in call.items() if k not in beside}}
    function = dict(call["function"])
    if "arguments" in function:
        decoded = from_json(function["arguments"] or {})
        function["arguments"] = decoded if isinstance(decoded, Mapping) else function["arguments"]
    return {"type": "function", **call, "function": function}


def _calls_in(content: object, where: str, complain: Complain) -> list[Any]:
    """The tool calls that a turn holds as JSON: one object with a name, or a list of them."""
    found = from_json(content)
    calls = found if isinstance(found, list) else [found]
    if not all(
        isinstance(call, Mapping) and ("name" in call or "function" in call) for call in calls
    ):
        complain(f'{where}: a tool call must be JSON: {{"name": "…", "arguments": {{…}}}}')
        return [{"name": "?", "arguments": {}}]
    return calls


def _flag(given: dict[str, Any], where: str, complain: Complain) -> bool | None:
    """Whether the turn's own flags (removed from ``given``) say that it is trained; None: nothing.

    Values other than 0 and 1 are reported, and flags that contradict each other.
    """
    said: dict[str, bool] = {}
    for key in (*TRAINED_IF, *MUTED_IF):
        if key not in given:
            continue
        value = given.pop(key)
        truth = TRUTH.get(str(value).strip().lower())
        if truth is None:
            complain(f"{where}: {key} is {value!r}; it must be 0 or 1, false or true")
        else:
            said[key] = truth != (key in MUTED_IF)
    if len(set(said.values())) > 1:
        complain(f"{where}: {' and '.join(said)} contradict each other")
    return next(iter(said.values()), None)
