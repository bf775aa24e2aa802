"""Whether a chat template shows everything that a chat holds.

A mark is put at the end of every text in the chat: of each message, its reasoning, its tool calls,
of names, tools and documents, and of keys that only a template could know. What the template shows
comes out with its mark; a field whose mark is missing has vanished.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lorita.data.tokens.template_forms import THINK, Messages

NOT_SHOWN = ("type", "id", "index", "tool_call_id")
"""Keys of a call that connect it to its result, and are no text themselves; not marked."""
BOOKKEEPING = (
    *("id", "type", "index"),
    *("message_id", "uuid", "parent_id", "turn_id", "turn", "timestamp", "created_at", "date"),
    *("create_time", "model", "lang", "language", "source", "annotations", "tokens", "num_tokens"),
)
"""Keys about a message that are hardly meant for a model: left out without asking, and said."""
SCHEMA_TEXTS = ("name", "description")
"""Keywords of a JSON schema whose text a model has to see."""


@dataclass(frozen=True)
class Field:
    """A text of a chat: in a message (by its index), or beside the messages (None)."""

    message: int | None
    name: str

    @property
    def key(self) -> str:
        """The key that holds it, for ``ignore_fields``."""
        return self.name.partition(" ")[0]


@dataclass
class Marked:
    """A chat with a mark at the end of each text, and the field that each mark stands for."""

    messages: list[dict[str, Any]]
    tools: list[Any]
    documents: list[Any]
    fields: dict[str, Field] = field(default_factory=dict)

    def missing(self, text: str) -> list[str]:
        """The marks that are not in the rendered text; upper and lower case are the same."""
        lower = text.lower()
        return [mark for mark in self.fields if mark.lower() not in lower]

    def marks_of(self, message: int) -> list[str]:
        """The marks in one message."""
        return [mark for mark, place in self.fields.items() if place.message == message]


def mark_chat(
    messages: Messages, tools: Sequence[Any] = (), documents: Sequence[Any] = ()
) -> Marked:
    """The chat with a mark at the end of each of its texts."""
    marked = Marked([], [], [])
    for number, message in enumerate(messages):
        marked.messages.append(_message(message, _Marker(marked.fields, number)))
    beside = _Marker(marked.fields, None)
    marked.tools = [_schema(tool, beside) for tool in tools]
    marked.documents = [_texts(document, "documents", beside) for document in documents]
    return marked


def without_marks(text: str, marked: Marked) -> tuple[str, dict[str, int]]:
    """The text without marks, and where each mark that occurs once stood in it."""
    places: dict[str, int] = {}
    pieces: list[str] = []
    length = start = 0
    for found in _MARK.finditer(text):
        if found[0] not in marked.fields:
            continue
        pieces.append(text[start : found.start()])
        length += len(pieces[-1])
        places[found[0]] = -1 if found[0] in places else length
        start = found.end()
    return "".join([*pieces, text[start:]]), {m: at for m, at in places.items() if at >= 0}


_MARK = re.compile(r"Zq\d+x")


def with_one_mark(marked: Marked, mark: str) -> Marked:
    """The chat with only one of its marks, for templates that do not take all of them."""

    def kept(value: Any) -> Any:
        if isinstance(value, str):
            return _MARK.sub(
                lambda m: "" if m[0] in marked.fields and m[0] != mark else m[0], value
            )
        if isinstance(value, Mapping):
            return {kept(key): kept(item) for key, item in value.items()}
        return [kept(item) for item in value] if isinstance(value, list) else value

    parts = (kept(marked.messages), kept(marked.tools), kept(marked.documents))
    return Marked(*parts, {mark: marked.fields[mark]})


class _Marker:
    """Hands out marks for the texts of one message, or of what stands beside the messages."""

    def __init__(self, fields: dict[str, Field], message: int | None) -> None:
        self._fields, self._message = fields, message

    def end(self, text: str, name: str) -> str:
        """The text with a mark behind its last letter; as it is if it is blank."""
        body = text.rstrip()
        if not body:
            return text
        mark = f"Zq{len(self._fields)}x"
        self._fields[mark] = Field(self._message, name)
        return body + mark + text[len(body) :]


def _message(message: Mapping[str, Any], marker: _Marker) -> dict[str, Any]:
    marked = dict(message)
    for key, value in message.items():
        if key == "content" and isinstance(value, str):
            marked[key] = _content(value, marker)
        elif key == "tool_calls":
            marked[key] = _texts(value, key, marker)
        elif key not in ("role", "content", "tool_call_id"):
            marked[key] = marker.end(str(value), key)
    return marked


def _content(text: str, marker: _Marker) -> str:
    """The content, marked before each tag of reasoning and at its end."""
    pieces = THINK.split(text)
    last = max((i for i in range(0, len(pieces), 2) if pieces[i].strip()), default=0)
    for i in range(0, len(pieces), 2):
        pieces[i] = marker.end(
            pieces[i], "content" if i == last else "content (the reasoning in it)"
        )
    return "".join(pieces)


def _texts(value: Any, name: str, marker: _Marker) -> Any:
    """The value with every text in it marked, and the names of a call's arguments."""
    if isinstance(value, str):
        return marker.end(value, name)
    if isinstance(value, list):
        return [_texts(item, name, marker) for item in value]
    if not isinstance(value, Mapping):
        return value
    marked: dict[str, Any] = {}
    for key, item in value.items():
        if key in NOT_SHOWN:
            marked[key] = item
        elif key == "arguments" and isinstance(item, Mapping):
            marked[key] = _arguments(item, name, marker)
        else:
            marked[key] = _texts(item, name, marker)
    return marked


def _arguments(values: Mapping[str, Any], name: str, marker: _Marker) -> dict[str, Any]:
    return {
        marker.end(str(key), name): marker.end(item, name) if isinstance(item, str) else item
        for key, item in values.items()
    }


def _schema(value: Any, marker: _Marker) -> Any:
    """A tool with the names and descriptions in it marked, those of its arguments, too."""
    if isinstance(value, list):
        return [_schema(item, marker) for item in value]
    if not isinstance(value, Mapping):
        return value
    marked: dict[str, Any] = {}
    for key, item in value.items():
        if key in SCHEMA_TEXTS and isinstance(item, str):
            marked[key] = marker.end(item, "tools")
        elif key == "properties" and isinstance(item, Mapping):
            names = {name: marker.end(str(name), "tools") for name in item}
            marked[key] = {names[name]: _schema(said, marker) for name, said in item.items()}
        else:
            marked[key] = _schema(item, marker)
    # The order of the keys stays: some templates write the schema as it is.
    needed = value.get("required")
    if isinstance(needed, list) and isinstance(value.get("properties"), Mapping):
        names = dict(zip(value["properties"], marked["properties"], strict=True))
        marked["required"] = [names.get(name, name) for name in needed]
    return marked
