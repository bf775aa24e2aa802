"""How long base and tuned model will be measured after training, from a few tokens before it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lorita.data.examples import count_tokens
from lorita.evaluation.measure import NEW_TOKENS
from lorita.inference.generation import generate
from lorita.inference.through_transformers import BATCH_SIZE
from lorita.training.forecast import Around

if TYPE_CHECKING:
    import torch

    from lorita.evaluation.measure import Questions

TIMED = 3
"""Tokens of each answer that are generated to time them, after the first one."""


@dataclass(frozen=True)
class Writing:
    """Seconds that answers take which are written together: to begin them, and for each token.

    ``first`` is how much longer it takes to begin with a model that has not written before.
    """

    begin: float
    token: float
    first: float = 0.0

    def seconds(self, answers: int, tokens: int) -> float:
        """Of so many answers of so many tokens each."""
        return math.ceil(answers / BATCH_SIZE) * (self.begin + tokens * self.token)


def around_training(
    model: torch.nn.Module, questions: Questions, asks_base: bool = True, *, started: float
) -> Around:
    """What a run takes beside its training; ``started`` is when it began (``perf_counter``).

    ``asks_base`` is False where the base's answers are known. Some tokens are generated.
    """
    before = time.perf_counter() - started
    return around(questions, before, time_writing(model, questions), asks_base)


def around(questions: Questions, before: float, writing: Writing, asks_base: bool = True) -> Around:
    """The same where it is known how long it takes to write."""
    proof, models, compared = questions.proof, 2 if asks_base else 1, 0
    seconds = writing.seconds(len(questions.prompts), questions.options.max_new_tokens)
    scored = count_tokens(questions.held_out)
    if proof is not None:
        compared = count_tokens(proof.general)  # what both predict there, from what was kept
        seconds += writing.seconds(len(proof.prompts), NEW_TOKENS)
        scored += count_tokens(proof.sample) + compared
    first = writing.first if asks_base else 0.0
    return Around(before, models * seconds + first, models * scored + compared)


def time_writing(model: torch.nn.Module, questions: Questions) -> Writing:
    """From some tokens of a batch of the answers; no time where there are no prompts."""
    prompts = questions.prompts[:BATCH_SIZE]
    written: list[list[float]] = []
    for tokens in (1, 1 + TIMED):  # the first call finds out how the model is computed
        options = replace(questions.options, max_new_tokens=tokens, do_sample=False)
        times = [time.perf_counter()]
        generate(
            model, questions.tokenizer, prompts, options, questions.prompt_format,
            advance=lambda _, times=times: times.append(time.perf_counter()),  # type: ignore[misc]
        )  # fmt: skip
        written.append(times)
    first, times = written
    if len(times) < 2:
        return Writing(0.0, 0.0)
    begin = times[1] - times[0]
    return Writing(begin, (times[-1] - times[1]) / TIMED, max(first[-1] - first[0] - begin, 0.0))
