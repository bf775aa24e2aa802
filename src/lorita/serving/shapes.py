"""Answers in the shapes of OpenAI's API, whole or as the chunks of a stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lorita.serving.token_texts import chat_logprobs, completion_logprobs
from lorita.serving.tool_calls import CallReader

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lorita.serving.answer import Piece
    from lorita.serving.guides import TokenLogprob
    from lorita.serving.prepare import Prepared


def usage(prompt: int, completion: int) -> dict[str, int]:
    """The counts of tokens."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


class Head:
    """What all chunks of an answer begin with."""

    def __init__(self, kind: str, prefix: str, model: str) -> None:
        self.model = model
        self._same = {
            "id": f"{prefix}-{secrets.token_hex(12)}",
            "object": kind,
            "created": int(time.time()),
            "model": model,
        }

    def with_choices(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """A chunk, or the whole answer."""
        return {**self._same, "choices": choices, **more}


@dataclass
class ChatChoice:
    """One answer of a chat, made of its pieces."""

    index: int
    tokenizer: PreTrainedTokenizerBase
    reader: CallReader | None
    wants_logprobs: bool
    text: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str | None = None

    def chunks(self, piece: Piece) -> Iterator[dict[str, Any]]:
        """The choices of the chunks in which a stream passes the piece on."""
        shown = piece.text if self.reader is None else self.reader.add(piece.text)
        calls: list[dict[str, Any]] = []
        if piece.finish_reason is not None and self.reader is not None:
            rest, calls = self.reader.end()
            shown += rest
        self.text += shown
        self.calls += calls
        self.logprobs += piece.logprobs
        if shown or piece.logprobs:
            yield self._chunk({"content": shown}, piece.logprobs)
        if calls:
            numbered = [{"index": number, **call} for number, call in enumerate(calls)]
            yield self._chunk({"tool_calls": numbered}, [])
        if piece.finish_reason is not None:
            self.finish_reason = "tool_calls" if calls else piece.finish_reason
            yield {**self._chunk({}, []), "finish_reason": self.finish_reason}

    def first(self) -> dict[str, Any]:
        """The choice of a stream's first chunk."""
        return self._chunk({"role": "assistant", "content": ""}, [])

    def whole(self) -> dict[str, Any]:
        """The choice of an answer that is not streamed."""
        text = self.text if not self.calls else self.text.rstrip()
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text if text or not self.calls else None,
            "refusal": None,
        }
        if self.calls:
            message["tool_calls"] = self.calls
        return {
            "index": self.index,
            "message": message,
            "logprobs": chat_logprobs(self.tokenizer, self.logprobs)
            if self.wants_logprobs
            else None,
            "finish_reason": self.finish_reason,
        }

    def _chunk(self, delta: dict[str, Any], found: list[TokenLogprob]) -> dict[str, Any]:
        shown = chat_logprobs(self.tokenizer, found) if self.wants_logprobs and found else None
        return {"index": self.index, "delta": delta, "logprobs": shown, "finish_reason": None}


@dataclass
class TextChoice:
    """One continuation of a prompt; ``echo`` is the prompt where it is to be repeated."""

    index: int
    tokenizer: PreTrainedTokenizerBase
    wants_logprobs: bool
    echo: str = ""
    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str | None = None
    _offset: int = 0

    def chunks(self, piece: Piece) -> Iterator[dict[str, Any]]:
        """The choices of the chunks in which a stream passes the piece on."""
        shown, self.echo = self.echo + piece.text, ""
        self.text += shown
        self.logprobs += piece.logprobs
        self.finish_reason = piece.finish_reason
        if shown or piece.logprobs or piece.finish_reason is not None:
            found = self._shown(piece.logprobs, self._offset)
            self._offset += len(shown)
            yield {
                "index": self.index,
                "text": shown,
                "logprobs": found,
                "finish_reason": piece.finish_reason,
            }

    def whole(self) -> dict[str, Any]:
        """The choice of an answer that is not streamed."""
        return {
            "index": self.index,
            "text": self.text,
            "logprobs": self._shown(self.logprobs, 0),
            "finish_reason": self.finish_reason,
        }

    def _shown(self, found: list[TokenLogprob], offset: int) -> dict[str, Any] | None:
        if not self.wants_logprobs:
            return None
        return completion_logprobs(self.tokenizer, found, offset)


def chat_choices(
    prepared: Prepared, tokenizer: PreTrainedTokenizerBase, *, wants_logprobs: bool
) -> list[ChatChoice]:
    """The choices of a chat, still empty."""
    readers: list[CallReader | None] = [None] * len(prepared.asked)
    if prepared.calls is not None:
        readers = [CallReader(prepared.calls, prepared.tools) for _ in prepared.asked]
    if prepared.is_call:
        for reader in readers:
            assert reader is not None
            reader.begin()
    return [
        ChatChoice(number, tokenizer, reader, wants_logprobs)
        for number, reader in enumerate(readers)
    ]
