"""Cells to chats: ``role``/``content``, ShareGPT's ``from``/``value``, OpenAI's JSONL.

Every reader takes a ``complain`` function and continues after a problem, so that all problems
are reported at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from lorita.data.formats.written_chats import decoded, why_unreadable
from lorita.data.rows import Chat, Message

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
    "tool": "tool",
    "ipython": "tool",
    "function": "tool",
    "function_response": "tool",
    "observation": "tool",
}
"""The names of roles in files, and those that chat templates use."""
ROLE_KEYS, CONTENT_KEYS = ("role", "from"), ("content", "value", "text")
MARKS = ("weight", "train")
"""Keys that say whether a turn is trained; templates do not see them."""


def looks_like_chat(cell: object) -> bool:
    """Whether a cell holds turns: a list of objects with a role, or the same as JSON text."""
    turns = decoded(cell)
    return (
        isinstance(turns, list)
        and bool(turns)
        and isinstance(turns[0], Mapping)
        and any(key in turns[0] for key in ROLE_KEYS)
    )


def is_sharegpt(cell: object) -> bool:
    """Whether the turns of a cell use ShareGPT's keys."""
    turns = decoded(cell)
    return looks_like_chat(cell) and "from" in turns[0] and "role" not in turns[0]


def read_chat(cell: object, complain: Complain, *, system: str = "", tools: object = None) -> Chat:
    """The chat in a cell, its problems reported to ``complain``.

    ``system`` is put first if the chat has no system message; ``tools`` is a list of JSON schemas,
    or the same as JSON text.
    """
    turns = decoded(cell)
    if not isinstance(turns, list):
        found = "nothing" if turns in (None, "") else type(turns).__name__
        why = why_unreadable(cell)
        complain(f"expected a list of messages, found {found}" + (f" ({why})" if why else ""))
        return Chat(())
    messages = [_message(turn, n, complain) for n, turn in enumerate(turns, 1)]
    kept = [message for message in messages if message is not None]
    if system.strip() and not any(message.role == "system" for message in kept):
        kept.insert(0, Message("system", system))
    if len(kept) >= len(messages):
        _check_order(kept, complain)
    return Chat(tuple(kept), _tools(tools, complain))


def _message(turn: object, number: int, complain: Complain) -> Message | None:
    where = f"message {number}"
    if not isinstance(turn, Mapping):
        complain(f"{where}: expected an object, found {type(turn).__name__}")
        return None
    given = {key: value for key, value in _without_none(turn).items() if value != []}
    said = next((given.pop(key) for key in ROLE_KEYS if key in given), None)
    role = ROLES.get(str(said).lower())
    if role is None:
        names = ", ".join(dict.fromkeys(ROLES.values()))
        complain(
            f"{where} has no role" if said is None else f"{where}: unknown role {said!r} ({names})"
        )
    content = next((given.pop(key) for key in CONTENT_KEYS if key in given), None)
    text = _plain_text(content, where, complain)
    if content is not None and not text.strip() and role == "assistant" and not _calls(given):
        complain(f"{where}: the assistant turn is empty")
    elif content is None and not _calls(given):
        complain(f"{where} has no content")
    muted = _is_muted(given, where, complain)
    extra = {key: value for key, value in given.items() if key not in MARKS}
    return Message(role, text, muted, extra) if role else None


def _calls(message: Mapping[str, Any]) -> bool:
    return any(message.get(key) for key in ("tool_calls", "function_call", "refusal"))


def _without_none(value: Any) -> Any:
    """The value without keys that are None: tables add every key of the other rows."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def _plain_text(content: object, where: str, complain: Complain) -> str:
    """The content if it is text, or the joined parts of OpenAI's content list."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list):
        parts = [p.get("text") if isinstance(p, Mapping) else p for p in content]
        if all(isinstance(part, str) for part in parts):
            return "".join(str(part) for part in parts)
        complain(f"{where}: its content has parts that are not text; lorita trains on text only")
        return ""
    complain(f"{where}: its content is not text (found {type(content).__name__})")
    return ""


def _is_muted(message: Mapping[str, Any], where: str, complain: Complain) -> bool:
    """Whether ``weight`` is 0 or ``train`` is false; values other than 0 and 1 are reported."""
    for key in MARKS:
        if key in message and message[key] not in (0, 1):
            complain(f"{where}: {key} is {message[key]!r}; it must be 0 or 1, false or true")
    return any(key in message and message[key] in (0, False) for key in MARKS)


def _check_order(messages: list[Message], complain: Complain) -> None:
    turns = [message.role for message in messages if message.role != "system"]
    if not turns:
        complain("the chat has no messages")
    elif turns[0] == "assistant":
        complain("the assistant speaks first, so its turn has no prompt")
    elif "assistant" not in turns:
        complain("no assistant turn, so there is nothing to train on")


def _tools(tools: object, complain: Complain) -> tuple[Any, ...]:
    if isinstance(tools, str) and tools.strip():
        try:
            tools = json.loads(tools)
        except json.JSONDecodeError as error:
            complain(f"tools: not valid JSON ({error.msg})")
            return ()
    if not tools:
        return ()
    if not isinstance(tools, list):
        complain(f"tools: expected a list, found {type(tools).__name__}")
        return ()
    return tuple(_without_none(tools))
