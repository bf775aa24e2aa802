"""The three kinds of row, whatever file they came from: text, prompt with completion, chat."""

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
    """Plain text, on which every token is trained."""

    text: str


@dataclass(frozen=True)
class Pair:
    """A prompt and the completion that should follow it."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Message:
    """One turn of a chat.

    ``muted`` means that the row itself excludes this turn from training, ``marked`` that it asks
    to train a turn that is not the assistant's. ``extra`` holds keys that only the template reads,
    such as tool calls.
    """

    role: str
    content: str
    muted: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    marked: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The message as chat templates expect it."""
        return {"role": self.role, "content": self.content, **self.extra}


@dataclass(frozen=True)
class Chat:
    """Turns in order. A template may list the ``tools`` (JSON schemas) and the ``documents``."""

    messages: tuple[Message, ...]
    tools: tuple[Any, ...] = ()
    documents: tuple[Any, ...] = ()

    @property
    def prompt(self) -> str:
        """The first user message; empty if there is none."""
        return next((m.content for m in self.messages if m.role == "user"), "")

    @property
    def system(self) -> str | None:
        """The system message at the start of the chat; None if there is none."""
        first = self.messages[0]
        return first.content if first.role == "system" else None


Row: TypeAlias = Text | Pair | Chat


@dataclass(frozen=True)
class Rows:
    """Rows of one kind; ``understood`` explains in a sentence how the columns were read.

    ``notes`` are the parts of it that are not about columns, such as cells that hold numbers.
    """

    kind: Kind
    rows: Sequence[Row]
    understood: str
    origin: Origin | str
    notes: tuple[str, ...] = ()


def as_chat(pair: Pair) -> Chat:
    """The pair as a chat of one user turn and one assistant turn."""
    return Chat((Message("user", pair.prompt), Message("assistant", pair.completion)))


def fingerprint(rows: Sequence[Row]) -> str:
    """A SHA-256 of the rows in order; run records store it to recognise their data."""
    digest = hashlib.sha256()
    for row in rows:
        if isinstance(row, Text):
            content = row.text
        elif isinstance(row, Pair):
            content = json.dumps([row.prompt, row.completion])
        else:
            turns = [m.as_dict() | {"muted": m.muted} for m in row.messages]
            beside = [row.tools, row.documents] if row.documents else [row.tools]
            content = json.dumps([turns, *beside], sort_keys=True, default=str)
        digest.update(content.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()
