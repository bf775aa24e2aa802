"""What a row can be, whatever file it came from: a text, a prompt with its completion, a chat.

Also the collector of what is wrong with rows: a mistake is told once, with the rows that have it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from lorita.data.origin import Origin

Kind: TypeAlias = Literal["text", "pair", "chat"]


@dataclass(frozen=True)
class Text:
    """Plain text: every token is trained."""

    text: str


@dataclass(frozen=True)
class Pair:
    """A prompt and what should follow it."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Message:
    """One turn. ``extra`` holds what only the template reads, such as tool calls.

    ``muted`` is the row's own word that this turn is not to be trained.
    """

    role: str
    content: str
    muted: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The message as templates know it."""
        return {"role": self.role, "content": self.content, **self.extra}


@dataclass(frozen=True)
class Chat:
    """Turns in their order; ``tools`` are the JSON schemas that a template may list."""

    messages: tuple[Message, ...]
    tools: tuple[Any, ...] = ()

    @property
    def prompt(self) -> str:
        """The first thing that the user says; empty if the user says nothing."""
        return next((m.content for m in self.messages if m.role == "user"), "")

    @property
    def system(self) -> str | None:
        """The system message that the chat starts with."""
        first = self.messages[0]
        return first.content if first.role == "system" else None


Row: TypeAlias = Text | Pair | Chat


@dataclass(frozen=True)
class Rows:
    """Rows of one kind; ``understood`` says in a sentence how the columns were read."""

    kind: Kind
    rows: Sequence[Row]
    understood: str
    origin: Origin | str


def as_chat(pair: Pair) -> Chat:
    """The pair as one question and one answer."""
    return Chat((Message("user", pair.prompt), Message("assistant", pair.completion)))


def fingerprint(rows: Sequence[Row]) -> str:
    """A hash of the rows in their order."""
    digest = hashlib.sha256()
    for row in rows:
        if isinstance(row, Text):
            content = row.text
        elif isinstance(row, Pair):
            content = json.dumps([row.prompt, row.completion])
        else:
            turns = [m.as_dict() | {"muted": m.muted} for m in row.messages]
            content = json.dumps([turns, row.tools], sort_keys=True, default=str)
        digest.update(content.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()
