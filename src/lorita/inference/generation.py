"""Text from a model: greedy by default, with a repetition penalty.

Prompts are answered together, by the engine where it knows the model, else by transformers'
``generate`` (``through_transformers.py``). Each answer is the one that its prompt would get alone.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lorita.data.tokens.prompt_format import PromptFormat
from lorita.engine.decoding import ACTIVE
from lorita.inference.answer_progress import Advance, AnswerProgress
from lorita.inference.idle_adapter import warn_of_idle
from lorita.inference.options import GenerationOptions as GenerationOptions
from lorita.inference.options import all_stops
from lorita.inference.prompt_length import positions_in_table, prompt_ids
from lorita.inference.through_transformers import answer_in_batches, does_not_fit
from lorita.system.memory import is_out_of_memory, may_be_out_of_memory

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from lorita.engine.decoding.writer import Request, Text, Writer

PREFILL_TOKENS = 2048
"""Prompts that are begun together have no more tokens than this; a single one may."""
BASE = "__base__"
"""PEFT's name, among the adapters of a batch, for rows that the base answers."""


@dataclass(frozen=True)
class Question:
    """A prompt, the format it is put in, and the name of its adapter where there are several."""

    prompt: str
    prompt_format: PromptFormat = field(default_factory=PromptFormat)
    adapter: str | None = None


def generate(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    options: GenerationOptions | None = None,
    prompt_format: PromptFormat | None = None,
    *,
    advance: Advance | None = None,
) -> list[str]:
    """Continue each prompt up to the end-of-text token or ``max_new_tokens``; returns the new text.

    If ``prompt_format`` has a chat template, each prompt is a question put through the template,
    and the end of the assistant's turn ends the answer. ``advance`` as in ``answer``.
    """
    asked = prompt_format or PromptFormat()
    questions = [Question(prompt, asked) for prompt in prompts]
    return answer(model, tokenizer, questions, options, advance=advance)


def answer(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    options: GenerationOptions | None = None,
    *,
    advance: Advance | None = None,
) -> list[str]:
    """Answer the questions; returns the answers in the same order.

    ``advance`` is told how many more answers are done, parts of one included. An answer is the one
    that its prompt would get alone, except where the batch changes how sums are rounded. Models
    that the engine does not know are asked through transformers' ``generate``, in batches of
    ``BATCH_SIZE``; there, sampled answers depend on the batch.
    """
    options = options or GenerationOptions()
    places = positions_in_table(model)
    rows = [prompt_ids(tokenizer, asked.prompt, asked.prompt_format, places) for asked in questions]
    warn_of_idle(model, tokenizer, rows)
    rooms = [_room(options.max_new_tokens, len(row), places) for row in rows]
    stops = [all_stops(model, asked.prompt_format.stops(tokenizer)) for asked in questions]
    adapters = [_adapter(asked.adapter) for asked in questions]
    requests = [
        request(row, options.for_prompts(asked.prompt_format), room, ends, adapter)
        for row, asked, room, ends, adapter in zip(
            rows, questions, rooms, stops, adapters, strict=True
        )
    ]
    progress = AnswerProgress(advance)
    made = write_all(model, requests, progress)
    if made is None:
        made = answer_in_batches(model, tokenizer, questions, rows, rooms, options, progress)
    return [
        asked.prompt_format.answer(tokenizer, new)
        for asked, new in zip(questions, made, strict=True)
    ]


def _room(most: int, prompt: int, places: int | None) -> int:
    """How many new tokens a prompt of so many tokens may have: no more than there are positions."""
    return most if places is None else min(most, places - prompt)


def _adapter(name: str | None) -> str | None:
    return ACTIVE if name is None else None if name == BASE else name


def request(
    prompt: Sequence[int],
    options: GenerationOptions,
    most_tokens: int,
    stops: frozenset[int],
    adapter: str | None,
) -> Request:
    """A text to write, with the options of its generation, those of its prompt format included."""
    from lorita.engine.decoding.choose import Choice
    from lorita.engine.decoding.writer import Request

    choice = Choice(
        options.penalty,
        options.do_sample,
        options.temperature,
        options.top_k,
        options.top_p,
        options.seed,
    )
    return Request(prompt, most_tokens, stops, choice, adapter)


def write_all(
    model: Any, requests: Sequence[Request], progress: AnswerProgress
) -> list[list[int]] | None:
    """The new tokens of each text; None if the engine does not know the model.

    Fewer texts are written at once where memory runs out; ``RunFailed`` if one alone does not fit.
    """
    from lorita.engine.decoding.writer import MOST_TEXTS, Writer
    from lorita.engine.plans import Unsuited

    done: dict[int, list[int]] = {}
    most = MOST_TEXTS
    while len(done) < len(requests):
        decoder = _decoder(model, requests)
        if decoder is None:
            return None
        writer = Writer(decoder)
        try:
            _write(writer, requests, done, most, progress)
        except Unsuited:
            return None
        except (MemoryError, RuntimeError) as error:
            certain = is_out_of_memory(error)
            if not certain and (most == 1 or not may_be_out_of_memory(error)):
                raise
            if most == 1:
                number = min(set(range(len(requests))) - set(done))
                raise does_not_fit(len(requests[number].prompt)) from error
            most = max(1, min(most, len(requests) - len(done)) // 2)
    return [done[number] for number in range(len(requests))]


def write_one(model: Any, asked: Request) -> Generator[int] | None:
    """The new tokens of a text, one at a time; None if the engine does not know the model.

    Closing the iterator ends the text.
    """
    from lorita.engine.decoding.writer import Writer

    decoder = _decoder(model, [asked])
    return None if decoder is None else _tokens(Writer(decoder), asked)


def _decoder(model: Any, requests: Sequence[Request]) -> Any:
    from lorita.engine.decoding import ACTIVE
    from lorita.engine.decoding.decoder import usable_decoder

    names = {asked.adapter for asked in requests} - {None, ACTIVE}
    return usable_decoder(model, sorted(name for name in names if name is not None))


def _tokens(writer: Writer, asked: Request) -> Generator[int]:
    (text,) = writer.prefill([asked])
    yield text.tokens[-1]
    while not text.finished:
        writer.step()
        yield text.tokens[-1]


def _write(
    writer: Writer,
    requests: Sequence[Request],
    done: dict[int, list[int]],
    most: int,
    progress: AnswerProgress,
) -> None:
    """Write all texts that are not done, at most so many at once."""
    waiting = [number for number in range(len(requests)) if number not in done]
    texts: dict[int, Text] = {}
    while waiting or texts:
        joining = _joining(waiting, requests, most - len(texts))
        if joining:
            del waiting[: len(joining)]
            begun = writer.prefill([requests[number] for number in joining])
            texts.update(zip(joining, begun, strict=True))
        else:
            writer.step()
        for number, text in list(texts.items()):
            written = len(text.tokens) / requests[number].most_tokens
            progress.at(number, 1.0 if text.finished else written)
            if text.finished:
                done[number] = texts.pop(number).tokens


def _joining(waiting: Sequence[int], requests: Sequence[Request], room: int) -> list[int]:
    joining: list[int] = []
    tokens = 0
    for number in waiting[: max(room, 0)]:
        tokens += len(requests[number].prompt)
        if joining and tokens > PREFILL_TOKENS:
            break
        joining.append(number)
    return joining
