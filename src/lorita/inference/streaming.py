"""One answer, piece by piece while it is written."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lorita.data.tokens.prompt_format import PromptFormat
from lorita.inference.generation import GenerationOptions, transformers_options

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


def stream(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[int],
    prompt_format: PromptFormat,
    options: GenerationOptions,
) -> Iterator[str]:
    """The text that follows the tokens ``ids``, as it comes; joined it is ``generate``'s answer.

    A consumer that stops early (``close()``) stops the model at its next token.
    """
    if options.do_sample:
        import torch

        torch.manual_seed(options.seed)
    writer = _Writer(model, tokenizer, ids, prompt_format, options)
    shown, new = "", []
    try:
        for token in writer.tokens():
            new.append(token)
            text = _settled(prompt_format.answer(tokenizer, new), prompt_format)
            if len(text) > len(shown) and text.startswith(shown):
                yield text[len(shown) :]
                shown = text
        text = prompt_format.answer(tokenizer, new)
        if text[len(shown) :]:
            yield text[len(shown) :]
    finally:
        writer.stop()


def _settled(text: str, prompt_format: PromptFormat) -> str:
    """What later tokens will not change: no half letters, no beginning of the mark that ends."""
    text = text.rstrip("\N{REPLACEMENT CHARACTER}")
    end = prompt_format.template.end_of_turn if prompt_format.template else ""
    for size in range(min(len(end), len(text)), 0, -1):
        if text.endswith(end[:size]):
            return text[:-size]
    return text


class _Writer:
    """``model.generate`` in a thread of its own; its tokens come through a queue."""

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
        self._options.repetition_penalty = options.repetition_penalty  # nothing is padded here
        self._queue: queue.Queue[int | BaseException | None] = queue.Queue()
        self._stopped = threading.Event()
        self._seen_prompt = False
        self._thread = threading.Thread(target=self._write, daemon=True)

    def tokens(self) -> Iterator[int]:
        """The new tokens, the one that ends the answer included."""
        self._thread.start()
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _write(self) -> None:
        import torch

        try:
            ids_1L = torch.tensor([self._ids], device=next(self._model.parameters()).device)
            with torch.inference_mode():
                self._model.generate(
                    input_ids=ids_1L,
                    attention_mask=torch.ones_like(ids_1L),
                    generation_config=self._options,
                    streamer=self,
                    stopping_criteria=[lambda *_, **__: self._stopped.is_set()],
                )
        except BaseException as error:
            self._queue.put(error)
        self._queue.put(None)

    # What transformers calls with the prompt first and each new token after.

    def put(self, value: torch.Tensor) -> None:
        if self._seen_prompt:
            for token in value.flatten().tolist():
                self._queue.put(token)
        self._seen_prompt = True

    def end(self) -> None:
        pass
