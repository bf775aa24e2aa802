"""Answers written by the engine: texts of any lengths together, which join as others finish."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from lorita.errors import RunFailed
from lorita.inference.options import GenerationOptions
from lorita.system.memory import is_out_of_memory

if TYPE_CHECKING:
    from lorita.engine.decoding.writer import Request, Text, Writer

PREFILL_TOKENS = 2048
"""Prompts that are begun together have no more tokens than this; a single one may."""


def request(
    prompt: Sequence[int],
    options: GenerationOptions,
    most_tokens: int,
    stops: frozenset[int],
    adapter: str | None,
) -> Request:
    """A text to write, with the options of its generation."""
    from lorita.engine.decoding.choose import Choice
    from lorita.engine.decoding.writer import Request

    choice = Choice(
        options.repetition_penalty,
        options.do_sample,
        options.temperature,
        options.top_k,
        options.top_p,
        options.seed,
    )
    return Request(prompt, most_tokens, stops, choice, adapter)


def write_all(model: Any, requests: Sequence[Request]) -> list[list[int]] | None:
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
            _write(writer, requests, done, most)
        except Unsuited:
            return None
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
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


def does_not_fit(tokens: int) -> RunFailed:
    """The error for a single answer that is too large for this machine."""
    return RunFailed(
        f"an answer to a prompt of {tokens} tokens does not fit in memory",
        hint="Lower --max-new-tokens, give a shorter prompt, or allow more memory.",
    )


def _decoder(model: Any, requests: Sequence[Request]) -> Any:
    from lorita.engine.decoding.check import usable_decoder
    from lorita.engine.decoding.layers import ACTIVE

    names = {asked.adapter for asked in requests} - {None, ACTIVE}
    return usable_decoder(model, sorted(name for name in names if name is not None))


def _tokens(writer: Writer, asked: Request) -> Generator[int]:
    (text,) = writer.prefill([asked])
    yield text.tokens[-1]
    while not text.finished:
        writer.step()
        yield text.tokens[-1]


def _write(
    writer: Writer, requests: Sequence[Request], done: dict[int, list[int]], most: int
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
        for number in [number for number, text in texts.items() if text.finished]:
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
