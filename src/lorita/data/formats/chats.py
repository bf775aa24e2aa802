"""Cells to chats: ``role``/``content``, ShareGPT's ``from``/``value``, OpenAI's JSONL.

Every reader takes a ``complain`` function and continues after a problem, so that all problems
are reported at once. What is in a single message is read in ``messages``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from lorita.data.formats.messages import (
    CALL_ROLES,
    ROLE_KEYS,
    ROLES,
    Complain,
    from_json,
    read_message,
    without_none,
)
from lorita.data.formats.written_chats import decoded, why_unreadable
from lorita.data.rows import Chat, Message


def looks_like_chat(cell: object) -> bool:
    """Whether a cell holds turns: a list of objects with a role, or the same as JSON text."""
    turns = decoded(cell)
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], Mapping):
        return False
    if any(key in turns[0] for key in ROLE_KEYS):
        return True
    said = [message["role"] for turn in turns[:2] for message in _by_role(turn) or ()]
    return {"user", "assistant"} <= {ROLES[role] for role in said}


def _by_role(turn: object) -> list[dict[str, Any]] | None:
    """The messages of a turn whose keys are the roles: ``{"user": "…", "assistant": "…"}``."""
    given = without_none(turn) if isinstance(turn, Mapping) else {}
    if not given or any(key.lower() not in ROLES for key in given):
        return None
    return [{"role": key.lower(), "content": text} for key, text in given.items()]


def is_sharegpt(cell: object) -> bool:
    """Whether the turns of a cell use ShareGPT's keys."""
    turns = decoded(cell)
    return looks_like_chat(cell) and "from" in turns[0] and "role" not in turns[0]


def read_chat(
    cell: object,
    complain: Complain,
    *,
    system: str = "",
    tools: object = None,
    documents: object = None,
    ignored: Collection[str] = (),
) -> Chat:
    """The chat in a cell, its problems reported to ``complain``.

    ``system`` is put first if the chat has no system message; ``tools`` and ``documents`` are lists
    of objects, or the same as JSON text. ``ignored`` are keys of messages to leave out.
    """
    turns = decoded(cell)
    if not isinstance(turns, list):
        found = "nothing" if turns in (None, "") else type(turns).__name__
        why = why_unreadable(cell)
        complain(f"expected a list of messages, found {found}" + (f" ({why})" if why else ""))
        return Chat(())
    turns = [each for turn in turns for each in _by_role(turn) or [turn]]
    messages = [read_message(turn, n, complain, ignored) for n, turn in enumerate(turns, 1)]
    kept = [message for message in messages if message is not None]
    whole = len(kept) == len(messages)
    if whole:
        kept = _joined_calls(turns, kept)
    if system.strip() and not any(message.role == "system" for message in kept):
        kept.insert(0, Message("system", system))
    if whole:
        _check_order(kept, complain)
    listed = [
        _listed(cell, name, complain) for cell, name in ((tools, "tools"), (documents, "documents"))
    ]
    return Chat(tuple(kept), tuple(_wrapped(tool) for tool in listed[0]), tuple(listed[1]))


def _joined_calls(turns: list[Any], messages: list[Message]) -> list[Message]:
    """Calls in turns that follow each other are the calls of one turn."""
    joined: list[Message] = []
    before = False
    for turn, message in zip(turns, messages, strict=True):
        role = str(next(turn[key] for key in ROLE_KEYS if turn.get(key) is not None)).lower()
        calls = role.replace("-", "_") in CALL_ROLES
        if calls and before:
            both = [*joined[-1].extra["tool_calls"], *message.extra["tool_calls"]]
            extra = {**joined[-1].extra, **message.extra, "tool_calls": both}
            muted = joined[-1].muted or message.muted
            joined[-1] = replace(joined[-1], extra=extra, muted=muted)
        else:
            joined.append(message)
        before = calls
    return joined


def _check_order(messages: list[Message], complain: Complain) -> None:
    turns = [message.role for message in messages if message.role != "system"]
    if not turns:
        complain("the chat has no messages")
    elif turns[0] == "assistant":
        complain("the assistant speaks first, so its turn has no prompt")
    elif "assistant" not in turns:
        complain("no assistant turn, so there is nothing to train on")


def _listed(cell: object, name: str, complain: Complain) -> list[Any]:
    """A list of objects, or the same as JSON text; each object may be JSON text, too."""
    if isinstance(cell, str) and cell.strip():
        try:
            cell = json.loads(cell)
        except json.JSONDecodeError as error:
            complain(f"{name}: not valid JSON ({error.msg})")
            return []
    if not cell:
        return []
    if not isinstance(cell, list):
        complain(f"{name}: expected a list, found {type(cell).__name__}")
        return []
    items = [from_json(item) for item in without_none(cell)]
    wrong = next((item for item in items if not isinstance(item, Mapping)), None)
    if wrong is not None:
        complain(f"{name}: expected objects, found {type(wrong).__name__}")
        return []
    return items


def _wrapped(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """A tool in the form that transformers and OpenAI give to templates."""
    if "name" in tool and "function" not in tool and set(tool) & {"parameters", "description"}:
        return {"type": "function", "function": dict(tool)}
    return tool
