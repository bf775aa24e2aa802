"""Texts of models that the engine does not know: written by transformers, one at a time.

``OneAtATime`` is used as the engine's ``Writer`` is. transformers' ``generate`` runs in a thread
that waits before each token until it is asked for one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from lorita.engine.decoding import ACTIVE
from lorita.inference.generation import BASE
from lorita.inference.options import GenerationOptions, transformers_options
from lorita.inference.through_transformers import MODEL_FAULTS, refuse_no_numbers
from lorita.system.memory import is_out_of_memory

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from lorita.engine.decoding.writer import Request, Text


class TextWriter(Protocol):
    """What writes texts that join and leave: the engine's ``Writer``, or ``OneAtATime``."""

    open: list[Text]

    @property
    def room(self) -> int:
        """How many more texts can join."""
        ...

    def prefill(self, requests: Sequence[Request]) -> list[Text]:
        """Begin texts: each gets its first token."""
        ...

    def step(self) -> list[Text]:
        """Add a token to each open text; returns those texts."""
        ...

    def leave(self, text: Text) -> None:
        """End a text before its end; does nothing to a finished one."""
        ...

    def cache_bytes(self, more: Sequence[Request]) -> int:
        """What keys and values take once these texts, and the open ones, have their full length."""
        ...

    def forget(self) -> None:
        """Give the memory of keys and values back; for when no text is open."""
        ...


def open_writer(
    model: Any, tokenizer: PreTrainedTokenizerBase, adapters: Sequence[str] = ()
) -> TextWriter:
    """What writes the model's texts best; each text may use another of the ``adapters``."""
    from lorita.engine.decoding.decoder import usable_decoder
    from lorita.engine.decoding.writer import Writer

    decoder = usable_decoder(model, adapters)
    return OneAtATime(model, tokenizer) if decoder is None else Writer(decoder)


class OneAtATime:
    """Writes a text at a time through transformers' ``generate``."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model, self._tokenizer = model, tokenizer
        self.open: list[Text] = []
        self._thread: _Thread | None = None

    @property
    def room(self) -> int:
        """How many more texts can join: one, or none."""
        return 1 - len(self.open)

    def prefill(self, requests: Sequence[Request]) -> list[Text]:
        """Begin a text: it gets its first token."""
        from lorita.engine.decoding.choose import Chooser
        from lorita.engine.decoding.writer import Text

        if not requests:
            return []
        if len(requests) > self.room:
            raise ValueError(f"{len(requests)} texts, but there is room for {self.room}")
        (request,) = requests
        text = Text(request, 0, Chooser(request.prompt, request.choice, request.guide))
        self._thread = _Thread(self._model, self._tokenizer, text)
        self.open = [text]
        self._add(text)
        return [text]

    def step(self) -> list[Text]:
        """Add a token to the open text, if there is one."""
        texts = list(self.open)
        for text in texts:
            self._add(text)
        return texts

    def leave(self, text: Text) -> None:
        """End a text before its end; does nothing to a finished one."""
        if text in self.open:
            self.open = []
            text.finished = True
            if self._thread is not None:
                self._thread.stop()
            self._thread = None

    def cache_bytes(self, more: Sequence[Request]) -> int:
        """Not known, and for one text only: none."""
        return 0

    def forget(self) -> None:
        """Nothing is kept."""

    def _add(self, text: Text) -> None:
        assert self._thread is not None
        try:
            token = self._thread.next()
        except BaseException:
            self.leave(text)
            raise
        text.tokens.append(token)
        if token in text.request.stops or len(text.tokens) >= text.request.most_tokens:
            self.leave(text)


class _Thread:
    """``model.generate`` for one text, which makes a token each time that ``next`` is called."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, text: Text) -> None:
        self._model, self._tokenizer, self._text = model, tokenizer, text
        self._made: queue.Queue[int | BaseException] = queue.Queue()
        self._wanted = threading.Semaphore(0)
        self._stopped, self._any = threading.Event(), False
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def next(self) -> int:
        """The next token. Raises what the model raises."""
        self._wanted.release()
        item = self._made.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def stop(self) -> None:
        """Stop the model at its next token and wait for the thread."""
        self._stopped.set()
        self._wanted.release()
        self._thread.join()

    def _write(self) -> None:
        import torch

        try:
            with torch.inference_mode():
                try:
                    self._generate()
                except MODEL_FAULTS as error:  # some models' code fails with a cache
                    if self._any or self._stopped.is_set() or is_out_of_memory(error):
                        raise
                    self._wanted.release()
                    self._generate(use_cache=False)
        except BaseException as error:
            self._made.put(error)

    def _generate(self, **more: Any) -> None:
        import torch
        from transformers import LogitsProcessorList

        request = self._text.request
        config = transformers_options(
            self._model,
            self._tokenizer,
            GenerationOptions(max_new_tokens=request.most_tokens),
            sorted(request.stops),
        )
        if request.adapter != ACTIVE and hasattr(self._model, "peft_config"):
            more["adapter_names"] = [request.adapter or BASE]
        device = next(self._model.parameters()).device
        ids_1L = torch.tensor([list(request.prompt)], device=device)
        self._model.generate(
            input_ids=ids_1L,
            attention_mask=torch.ones_like(ids_1L),
            generation_config=config,
            logits_processor=LogitsProcessorList([partial(_chosen, self)]),
            stopping_criteria=[lambda *_, **__: self._stopped.is_set()],
            **more,
        )

    def choose(self, scores_V: Tensor) -> int:
        """Wait until a token is wanted, and choose it."""
        self._wanted.acquire()
        if self._stopped.is_set():
            return int(scores_V.argmax())
        token = self._text.chooser.choose(scores_V)
        self._any = True
        self._made.put(token)
        return token


def _chosen(thread: _Thread, ids_1L: Tensor, scores_1V: Tensor) -> Tensor:
    """Scores of which the chosen token's is the highest: ``generate`` has to take it."""
    refuse_no_numbers(ids_1L, scores_1V)
    token = thread.choose(scores_1V[0].float().cpu().clone())
    only_1V = scores_1V.new_full(scores_1V.shape, float("-inf"))
    only_1V[0, token] = 0.0
    return only_1V
