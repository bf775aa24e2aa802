"""Texts written by llama.cpp, which join and leave as those of the engine do.

A model (the base, or an adapter on it) has slots of its own in llama.cpp, and a slot keeps the keys
and values of its last text. So what was computed under one adapter is never used under another,
whatever llama.cpp does with a slot whose adapter changes.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lorita.inference.llamacpp import LlamaCpp, LlamaStream
from lorita.serving.guides import LlamaGuide

if TYPE_CHECKING:
    from lorita.engine.decoding.writer import Request

MOST_TEXTS = 32
"""Texts that are open at once; those that find no free slot wait in llama.cpp."""
_PATIENCE = 0.05
"""Seconds after which the scheduler looks for other work though no piece came."""


@dataclass
class LlamaText:
    """A text that llama.cpp writes; see ``lorita.engine.decoding.writer.Text``."""

    request: Request
    slot: int
    guide: LlamaGuide
    stream: LlamaStream
    tokens: list[int] = field(default_factory=list)
    finished: bool = False
    arrived: queue.SimpleQueue[int | None] = field(default_factory=queue.SimpleQueue)


class LlamaWriter:
    """Writes texts with one llama.cpp server.

    ``adapters`` are its adapters' names, in order; each, and the base, has so many ``slots``.
    ``controls`` are the texts of control tokens.
    """

    def __init__(
        self,
        server: LlamaCpp,
        adapters: Sequence[str],
        *,
        slots: int,
        controls: Mapping[int, str],
    ) -> None:
        self._server, self._adapters, self._slots = server, list(adapters), slots
        self._controls = controls
        self.open: list[LlamaText] = []
        self._last: dict[int, list[int]] = {}
        self._arrived = threading.Event()

    @property
    def room(self) -> int:
        """How many more texts can join."""
        return MOST_TEXTS - len(self.open)

    def prefill(self, requests: Sequence[Request]) -> list[LlamaText]:
        """Begin texts; their first pieces come with ``step``."""
        texts = [self._begin(request) for request in requests]
        self.open += texts
        return texts

    def step(self) -> list[LlamaText]:
        """The texts that have another piece; waits a little for one."""
        self._arrived.wait(_PATIENCE)
        self._arrived.clear()
        found = []
        for text in list(self.open):
            if text.arrived.empty():
                continue
            number = text.arrived.get()
            if not text.arrived.empty():
                self._arrived.set()
            if number is None:
                number = text.guide.add("")
                text.finished = True
                self._remove(text)
            text.tokens.append(number)
            if number >= 0:
                self.leave(text)
            found.append(text)
        return found

    def leave(self, text: LlamaText) -> None:
        """End a text before its end; does nothing to a finished one."""
        if any(text is other for other in self.open):
            self._remove(text)
            text.finished = True
            text.stream.close()

    def cache_bytes(self, more: Sequence[Request]) -> int:
        """The room that these texts and the open ones need at most, in tokens."""
        texts = [*(text.request for text in self.open), *more]
        return sum(len(request.prompt) + request.most_tokens for request in texts)

    def forget(self) -> None:
        """Nothing: what slots keep makes the next prompts faster."""

    def slots_of(self, adapter: str | None) -> range:
        """The slots of a model: no other model ever uses them."""
        number = 0 if adapter is None else 1 + self._adapters.index(adapter)
        return range(number * self._slots, (number + 1) * self._slots)

    def _remove(self, text: LlamaText) -> None:
        self.open = [other for other in self.open if other is not text]

    def _begin(self, request: Request) -> LlamaText:
        guide = request.guide
        assert isinstance(guide, LlamaGuide)
        slot = self._choose_slot(request)
        number = None if request.adapter is None else self._adapters.index(request.adapter)
        body = {
            **_steered(request),
            "logit_bias": [[token, value] for token, value in guide.bias.items()],
            "id_slot": slot,
            "lora": self._server.scales(number),
            "cache_prompt": True,
        }
        self._last[slot] = list(request.prompt)
        text = LlamaText(request, slot, guide, self._server.stream(body))
        threading.Thread(target=self._read, args=[text], daemon=True).start()
        return text

    def _choose_slot(self, request: Request) -> int:
        """The least busy of the model's slots; of several, that which knows most of the prompt."""
        busy = [text.slot for text in self.open]

        def known(slot: int) -> int:
            pairs = zip(self._last.get(slot, ()), request.prompt, strict=False)
            return next((n for n, (a, b) in enumerate(pairs) if a != b), len(request.prompt))

        return min(self.slots_of(request.adapter), key=lambda s: (busy.count(s), -known(s)))

    def _read(self, text: LlamaText) -> None:
        """Pass a stream's pieces on; in a thread of its own."""
        stops, guide = text.request.stops, text.guide
        end = None
        try:
            for piece in text.stream.pieces():
                guide.written = int(piece.get("tokens_predicted") or guide.written)
                tokens = piece.get("tokens") or []
                if any(token in stops for token in tokens):
                    end = next(token for token in tokens if token in stops)
                    break
                said = piece.get("content") or ""
                if not said and guide.shows_controls:
                    said = "".join(self._controls.get(token, "") for token in tokens)
                if said:
                    text.arrived.put(guide.add(said))
                    self._arrived.set()
                if piece.get("stop"):
                    if piece.get("stop_type") == "eos" and stops:
                        end = min(stops)
                    break
        except Exception as error:  # the stream was closed, or llama.cpp has ended
            guide.error = error
        text.arrived.put(end)
        self._arrived.set()


def _steered(request: Request) -> dict[str, Any]:
    """What is asked, in llama.cpp's terms, its samplers in transformers' order."""
    choice, prompt = request.choice, list(request.prompt)
    return {
        "prompt": prompt,
        "n_predict": request.most_tokens,
        "samplers": ["penalties", "temperature", "top_k", "top_p"],
        "repeat_penalty": choice.repetition_penalty,
        "repeat_last_n": len(prompt) + request.most_tokens,
        "temperature": choice.temperature if choice.do_sample else 0.0,
        "top_k": choice.top_k,
        "top_p": choice.top_p,
        "min_p": 0.0,
        "seed": choice.seed % 2**32,
        "return_tokens": True,
    }
