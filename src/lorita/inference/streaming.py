"""One answer, piece by piece, as the model writes it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lorita.inference.generation import request, write_one
from lorita.inference.idle_adapter import warn_of_idle
from lorita.inference.options import GenerationOptions, all_stops, transformers_options
from lorita.inference.through_transformers import refuse_no_numbers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from lorita.data.tokens.prompt_format import PromptFormat


def stream(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[int],
    prompt_format: PromptFormat,
    options: GenerationOptions,
) -> Generator[str, None, bool]:
    """Yield the answer to the prompt tokens ``ids`` in pieces; return whether it was cut.

    It is cut where it has ``max_new_tokens`` and the model would have gone on. Joined, the pieces
    are the answer of ``generate``. Closing the iterator early (``close()``) stops the model at its
    next token. An error in the model is raised here.
    """
    from lorita.engine.decoding import ACTIVE

    warn_of_idle(model, tokenizer, [ids])
    stops = all_stops(model, prompt_format.stops(tokenizer))
    options = options.for_prompts(prompt_format)
    asked = request(ids, options, options.max_new_tokens, stops, ACTIVE)
    tokens = write_one(model, asked) or _through_transformers(
        model, tokenizer, ids, prompt_format, options
    )
    shown, new = "", []
    try:
        for token in tokens:
            new.append(token)
            text = _settled(prompt_format.answer(tokenizer, new), prompt_format)
            if len(text) > len(shown) and text.startswith(shown):
                yield text[len(shown) :]
                shown = text
        text = prompt_format.answer(tokenizer, new)
        if text[len(shown) :]:
            yield text[len(shown) :]
        return len(new) >= options.max_new_tokens and new[-1] not in stops
    finally:
        tokens.close()


def _through_transformers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[int],
    prompt_format: PromptFormat,
    options: GenerationOptions,
) -> Generator[int]:
    """The new tokens of a text; the thread that writes them is stopped in the end."""
    if options.do_sample:
        import torch

        torch.manual_seed(options.seed)
    writer = _Writer(model, tokenizer, ids, prompt_format, options)
    try:
        yield from writer.tokens()
    finally:
        writer.stop()


def _settled(text: str, prompt_format: PromptFormat) -> str:
    """The part of ``text`` that later tokens cannot change.

    Cut off at the end are incomplete characters and what may be the start of the end-of-turn mark.
    """
    text = text.rstrip("\N{REPLACEMENT CHARACTER}")
    end = prompt_format.template.end_of_turn if prompt_format.template else ""
    for size in range(min(len(end), len(text)), 0, -1):
        if text.endswith(end[:size]):
            return text[:-size]
    return text


class _Writer:
    """``model.generate`` in a thread of its own, which passes on its tokens through a queue."""

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        ids: Sequence[int],
        prompt_format: PromptFormat,
        options: GenerationOptions,
    ) -> None:
        stops = prompt_format.stops(tokenizer)
        self._model, self._ids = model, list(ids)
        self._options = transformers_options(model, tokenizer, options, stops)
        # There is no padding here, so transformers' own penalty can be used.
        self._options.repetition_penalty = options.penalty
        self._queue: queue.Queue[int | BaseException | None] = queue.Queue()
        self._stopped = threading.Event()
        self._seen_prompt = False
        self._thread = threading.Thread(target=self._write, daemon=True)

    def tokens(self) -> Iterator[int]:
        """Start the thread and yield the new tokens, including the one that ends the answer."""
        self._thread.start()
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def stop(self) -> None:
        """Stop the model at its next token and wait for the thread."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _write(self) -> None:
        import torch
        from transformers import LogitsProcessorList

        try:
            ids_1L = torch.tensor([self._ids], device=next(self._model.parameters()).device)
            with torch.inference_mode():
                self._model.generate(
                    input_ids=ids_1L,
                    attention_mask=torch.ones_like(ids_1L),
                    generation_config=self._options,
                    logits_processor=LogitsProcessorList([refuse_no_numbers]),
                    streamer=self,
                    stopping_criteria=[lambda *_, **__: self._stopped.is_set()],
                )
        except BaseException as error:
            self._queue.put(error)
        self._queue.put(None)

    def put(self, value: torch.Tensor) -> None:
        """Called by transformers, first with the prompt and then with each new token."""
        if self._seen_prompt:
            for token in value.flatten().tolist():
                self._queue.put(token)
        self._seen_prompt = True

    def end(self) -> None:
        """Called by transformers after the last token; ``_write`` ends the queue instead."""
