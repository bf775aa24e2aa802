"""Texts that are written together. They join when they like, and leave when they are finished.

    writer = Writer(decoder)
    texts = writer.prefill([Request(ids, 100, stops=frozenset({eos}))])  # each has its first token
    while not all(text.finished for text in texts):
        writer.step()                                        # one more token for each open text

What a text says does not depend on the others, except for how sums are rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lorita.engine.decoding import ACTIVE
from lorita.engine.decoding.choose import Choice, Chooser, Guide, choose

if TYPE_CHECKING:
    from lorita.engine.decoding.decoder import Decoder

MOST_TEXTS = 32
"""Texts that are open at once; the kernels of ``decode.cpp`` are made for so many."""


@dataclass(frozen=True)
class Request:
    """A text to write: its beginning, how many tokens may follow, and what ends it."""

    prompt: Sequence[int]
    most_tokens: int
    stops: frozenset[int] = frozenset()
    choice: Choice = field(default_factory=Choice)
    adapter: str | None = ACTIVE
    """By name, where the decoder has several; None for none."""
    guide: Guide | None = None
    """Of this text alone: it keeps what it was told."""


@dataclass
class Text:
    """What has been written so far, the token that ended it included."""

    request: Request
    slot: int
    chooser: Chooser
    tokens: list[int] = field(default_factory=list)
    finished: bool = False


class Writer:
    """Writes up to ``MOST_TEXTS`` texts at once with one decoder."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.open: list[Text] = []

    @property
    def room(self) -> int:
        """How many more texts can join."""
        return MOST_TEXTS - len(self.open)

    def cache_bytes(self, more: Sequence[Request]) -> int:
        """What keys and values take once these texts, and the open ones, have their full length."""
        texts = [*(text.request for text in self.open), *more]
        longest = max((len(r.prompt) + r.most_tokens for r in texts), default=0)
        return self._decoder.cache_bytes(len(texts), longest)

    def forget(self) -> None:
        """Give the memory of keys and values back; for when no text is open."""
        if not self.open:
            self._decoder.forget()

    def prefill(self, requests: Sequence[Request]) -> list[Text]:
        """Begin texts: each gets its first token."""
        if len(requests) > self.room:
            raise ValueError(f"{len(requests)} texts, but there is room for {self.room}")
        slots, logits_nV = self._decoder.prefill(
            [request.prompt for request in requests], [request.adapter for request in requests]
        )
        texts = [
            Text(request, slot, Chooser(request.prompt, request.choice, request.guide))
            for request, slot in zip(requests, slots, strict=True)
        ]
        self.open += texts
        self._add(texts, choose([text.chooser for text in texts], logits_nV))
        return texts

    def step(self) -> list[Text]:
        """Add a token to each open text; returns those texts."""
        texts = list(self.open)
        if texts:
            logits_nV = self._decoder.step(
                [text.slot for text in texts], [text.tokens[-1] for text in texts]
            )
            self._add(texts, choose([text.chooser for text in texts], logits_nV))
        return texts

    def leave(self, text: Text) -> None:
        """End a text before its end; does nothing to a finished one."""
        if text in self.open:
            self.open = [other for other in self.open if other is not text]
            self._decoder.leave(text.slot)
            text.finished = True

    def _add(self, texts: Sequence[Text], tokens: Sequence[int]) -> None:
        for text, token in zip(texts, tokens, strict=True):
            text.tokens.append(token)
            request = text.request
            if token in request.stops or len(text.tokens) >= request.most_tokens:
                self.leave(text)
