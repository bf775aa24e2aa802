"""Chats written as text in a cell: as JSON, or as Python, pandas and numpy print a list of dicts.

CSV files can hold lists in no other way. Text that begins like a chat and cannot be read is a
mistake (``why_unreadable``), never a text to train on. Nothing in a cell is ever run.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

LONGEST = 4 * 2**20
"""Characters of a cell that is read as Python prints it; Python's own parser takes much memory."""
MOST_BEFORE = 500
"""Characters of an object before the list in it."""
SPEAKERS = (
    "system|developer|user|human|prompter|assistant|gpt|chatgpt|bot|model|tool|function|observation"
    "|ipython|function_call|function_response|tool_call|tool_response"
)
_SPEAKER = rf"['\"]?(?:role|from)['\"]?\s*[:=]\s*['\"](?:{SPEAKERS})\b"
_CONTENT = r"['\"](?:content|value)['\"]\s*:"
_STARTS = re.compile(
    r"\s*(?P<list>(?:(?:np\.)?(?:array|list)?\(\s*)?[\[\s]*)"
    r"(?:\{|\w+\()\s*"  # a turn, perhaps as a class prints it
    rf"(?:{_SPEAKER}|{_CONTENT}.*['\"](?:role|from)['\"]\s*:)",
    re.IGNORECASE | re.DOTALL,
)
_STRING = re.compile(r"('(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\")", re.DOTALL)
_BEGINNINGS = ("[", "{", "(", "array(", "np.array(", "list(", '"[', '"{')


TURN_KEYS = {"role", "from"}
NAMES = ("id", "_id", "idx", "uuid", "source", "name")
"""Keys beside a chat in an object that say nothing to a model."""


class _Unreadable(ValueError):
    """Text that Python may have printed and that does not hold all of a value."""


def decoded(cell: object) -> Any:
    """The list that a cell holds, if it is written as text or alone in an object; else the cell."""
    value = cell
    if isinstance(cell, str) and cell.lstrip().startswith(_BEGINNINGS):
        try:
            value = _parsed(cell)
        except ValueError:
            return cell
    if isinstance(value, Mapping):
        held = _held(value)
        if held is not None:
            return held
        if isinstance(cell, str) and starts_like_chat(cell) and TURN_KEYS & value.keys():
            return [value]
    if isinstance(value, tuple) and all(isinstance(turn, Mapping) for turn in value):
        value = list(value)
    return value if isinstance(value, list) or not isinstance(cell, str) else cell


def _held(value: Mapping[str, Any]) -> list[Any] | None:
    """The only list in an object that holds nothing else but a name, a number or a switch."""
    lists = [part for part in value.values() if isinstance(part, list) and part]
    others = [
        key
        for key, part in value.items()
        if isinstance(part, Mapping) or (isinstance(part, str) and part and key not in NAMES)
    ]
    return lists[0] if len(lists) == 1 and not others else None


def starts_like_chat(cell: object) -> bool:
    """Whether a text begins as a chat does when it is written as text."""
    if not isinstance(cell, str):
        return False
    text = _unquoted(cell)
    start = _STARTS.match(text)
    if start is None and text.lstrip().startswith("{"):  # an object around the list
        start = _STARTS.match(text, max(text.find("[", 0, MOST_BEFORE), 0))
    if start is None:
        return False
    # An object alone may be an answer in JSON: a turn has its content, too.
    return bool(start["list"].strip() or re.search(rf"{_CONTENT}|\bcontent=", text))


def why_unreadable(cell: object) -> str | None:
    """Why a text that begins like a list cannot be read as one; None if it can."""
    if not isinstance(cell, str) or not cell.lstrip().startswith(_BEGINNINGS):
        return None
    try:
        value = _parsed(cell)
    except ValueError as error:
        return str(error)
    if isinstance(value, Mapping):
        return f"an object with {', '.join(map(str, value))}, from which lorita takes no list"
    return None


def _unquoted(cell: str) -> str:
    """The text inside JSON's quotes, where JSON was written as JSON a second time."""
    text = cell.strip()
    if text.startswith(('"[', '"{')):
        try:
            inner = json.loads(text)
        except ValueError:
            return cell
        return str(inner)
    return cell


def _parsed(cell: str) -> Any:
    text = _unquoted(cell)
    try:
        return json.loads(text, strict=False)
    except (json.JSONDecodeError, RecursionError) as error:
        as_json = error
    if len(text) > LONGEST:
        raise _Unreadable(f"longer than {LONGEST // 2**20} million characters")
    try:
        return ast.literal_eval(_with_commas(text.strip()))
    except _Unreadable:
        raise
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        place = f" at character {as_json.pos + 1}" if isinstance(as_json, ValueError) else ""
        if text.lstrip().startswith(('[{"', '{"')):
            raise _Unreadable(f"not valid JSON{place}: cut off or malformed") from None
        raise _Unreadable("neither JSON nor a Python list: cut off or malformed") from None


def _with_commas(text: str) -> str:
    """What numpy prints as Python would write it: commas between elements, no ``array(...)``.

    Only what is outside the strings is changed. Raises ``_Unreadable`` where something is left out.
    """
    parts = _STRING.split(text)
    for i in range(0, len(parts), 2):
        part = parts[i]
        if "..." in part:
            raise _Unreadable("shortened with ... when it was printed; the rest is not in the file")
        if 0 < i < len(parts) - 1 and not part.strip():
            raise _Unreadable("no comma between two strings")
        part = re.sub(r"\b(?:np\.)?(?:array|list|float64|int64|str_)\(", "(", part)
        part = re.sub(r",\s*dtype=\w+(?=\s*\))", "", part)
        part = re.sub(r"\bnan\b", "None", part)
        parts[i] = re.sub(r"([}\]])(\s+)(?=[{\[])", r"\1,\2", part)
    return "".join(parts)
