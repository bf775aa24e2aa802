"""OpenAI's rules for training data: what a line of JSONL may hold, and how many there must be.

What passes is read by lorita like any other data, and may still be refused there, for example
because the model's chat template has no place for tools.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorita.jobs.records import Failure

LEAST_EXAMPLES = 10
MOST_LINE_BYTES = 8 * 2**20
MOST_SAID = 5
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_CHAT_KEYS = {"messages", "tools", "parallel_tool_calls", "functions"}
_PAIR_KEYS = {"prompt", "completion"}
_MESSAGE_KEYS = {
    "role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call", "refusal",
}  # fmt: skip
_PREFERENCE_KEYS = {"input", "preferred_output", "non_preferred_output"}
Complain = Callable[[str], None]


@dataclass
class _Found:
    """What was found in a file so far: the first problems in words, and how many there are."""

    problems: list[str] = field(default_factory=list)
    count: int = 0
    rows: int = 0
    kinds: set[str] = field(default_factory=set)

    def complain(self, text: str) -> None:
        self.count += 1
        if len(self.problems) < MOST_SAID:
            self.problems.append(text)


def check_file(path: Path, param: str) -> int:
    """The number of examples in a file; raises ``BadFile`` with all that is wrong with it.

    ``param`` is the file's part in the request: ``training_file`` or ``validation_file``.
    """
    found = _Found()
    for number, line in _lines(path):
        _check_line(line, number, found)
    if len(found.kinds) > 1:
        found.complain("some lines are chats (messages), others pairs (prompt, completion)")
    if found.problems:
        more = found.count - len(found.problems)
        text = "; ".join(found.problems) + (f"; and {more} more" if more else "")
        raise BadFile(Failure(f"invalid_{param}", f"The file has problems: {text}.", param))
    least = LEAST_EXAMPLES if param == "training_file" else 1
    if found.rows < least:
        kind = param.partition("_")[0].capitalize()
        raise BadFile(
            Failure(
                "invalid_n_examples",
                f"{kind} file has {found.rows} example(s), but must have at least {least}.",
                param,
            )
        )
    return found.rows


class BadFile(Exception):
    """A file that cannot be trained on."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MOST_LINE_BYTES + 1):
            number += 1
            yield number, line


def _check_line(line: bytes, number: int, found: _Found) -> None:
    def complain(text: str) -> None:
        found.complain(f"line {number}: {text}")

    if len(line) > MOST_LINE_BYTES:
        complain(f"longer than {MOST_LINE_BYTES:,} bytes")
        return
    if not line.strip():
        return
    found.rows += 1
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError:
        complain("not UTF-8")
    except (ValueError, RecursionError):
        complain("not valid JSON; each line must be one JSON object")
    else:
        if not isinstance(row, dict):
            complain("not a JSON object")
        elif "messages" in row:
            found.kinds.add("chat")
            _check_chat(row, complain)
        elif row.keys() & _PAIR_KEYS:
            found.kinds.add("pair")
            _check_pair(row, complain)
        elif row.keys() & _PREFERENCE_KEYS:
            complain("a preference; only supervised training is done here, on messages")
        else:
            complain("has no messages")


def _check_pair(row: dict[str, Any], complain: Complain) -> None:
    for key in sorted(_PAIR_KEYS):
        if not isinstance(row.get(key), str):
            complain(f"{key} must be a text")
    _unknown(row, _PAIR_KEYS, "", complain)


def _check_chat(row: dict[str, Any], complain: Complain) -> None:
    _unknown(row, _CHAT_KEYS, "", complain)
    tools = row.get("tools")
    if tools is not None:
        _check_tools(tools, complain)
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        complain("messages must be a list with at least one message")
        return
    calls: set[str] = set()
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if not isinstance(message, dict):
            complain(f"{where} is not an object")
            return
        _check_message(message, where, calls, complain)
    if messages[-1].get("role") != "assistant":
        complain("the last message must be from the assistant")
    elif not any(m.get("role") == "assistant" and m.get("weight") != 0 for m in messages):
        complain("every message of the assistant has weight 0, so there is nothing to learn")


def _check_message(
    message: dict[str, Any], where: str, calls: set[str], complain: Complain
) -> None:
    """One message; ``calls`` are the ids of the tool calls so far, to which its own are added."""
    role = message.get("role")
    if role not in ROLES:
        complain(f"{where}.role is {_short(role)}; it must be one of {', '.join(ROLES)}")
        return
    _unknown(message, _MESSAGE_KEYS, f"{where}.", complain)
    weight = message.get("weight")
    if weight is not None and (role != "assistant" or type(weight) is not int or weight > 1):
        complain(f"{where}.weight must be 0 or 1, and only messages of the assistant have one")
    elif weight is not None and weight < 0:
        complain(f"{where}.weight must be 0 or 1")
    says_more = any(message.get(key) for key in ("tool_calls", "function_call", "refusal"))
    _check_content(message.get("content"), where, complain, optional=says_more)
    if says_more and role != "assistant":
        complain(f"{where}: only the assistant calls tools or refuses")
    elif message.get("tool_calls"):
        _check_calls(message["tool_calls"], where, calls, complain)
    if role == "tool" and message.get("tool_call_id") not in calls:
        complain(f"{where}.tool_call_id must name a tool call in an earlier message")


def _check_content(content: object, where: str, complain: Complain, *, optional: bool) -> None:
    if content is None and optional:
        return
    if isinstance(content, list) and content:
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind != "text" or not isinstance(part.get("text"), str):
                said = f"has a part of type {_short(kind)}" if kind != "text" else "has a bad part"
                complain(f"{where}.content {said}; only text is trained")
                return
    elif not isinstance(content, str):
        complain(f"{where}.content must be a text")


def _check_calls(given: object, where: str, calls: set[str], complain: Complain) -> None:
    for call in given if isinstance(given, list) else [None]:
        function = call.get("function") if isinstance(call, dict) else None
        if (
            not isinstance(call, dict) or call.get("type") != "function"
            or not isinstance(call.get("id"), str) or not isinstance(function, dict)
            or not isinstance(function.get("name"), str)
        ):  # fmt: skip
            complain(f"{where}.tool_calls: a call has an id, the type function, and a function")
            return
        calls.add(call["id"])
        try:
            if not isinstance(json.loads(function["arguments"]), dict):
                raise ValueError
        except (KeyError, TypeError, ValueError, RecursionError):
            complain(f"{where}.tool_calls: arguments must be a JSON object in a text")


def _check_tools(tools: object, complain: Complain) -> None:
    for tool in tools if isinstance(tools, list) else [None]:
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            complain("tools: each must be of type function, with a function that has a name")
            return


def _unknown(given: dict[str, Any], known: set[str], prefix: str, complain: Complain) -> None:
    if extra := sorted(str(key) for key in given if key not in known):
        complain(f"unknown key {_short(prefix + extra[0])}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
