"""How long base and tuned model will be measured after training, from a few tokens before it."""

from __future__ import annotations

import math
import time
from dataclasses import replace
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
"""Tokens of each answer that are generated to time them; the first call warms up."""
MODELS = 2
"""Both the tuned model and the base are asked."""


def around_training(
    model: torch.nn.Module, questions: Questions, *, started: float, settled: float | None = None
) -> Around:
    """What a run takes beside its training; ``started`` is when it began (``perf_counter``).

    ``settled`` is when all else was ready to train; now, if None. Some tokens are generated.
    """
    before = (time.perf_counter() if settled is None else settled) - started
    return around(questions, before, seconds_per_token(model, questions))


def around(questions: Questions, before: float, per_token: float) -> Around:
    """The same where it is known how many seconds a generated token takes."""
    prompts, proof = questions.prompts, questions.proof
    tokens = _batches(len(prompts)) * questions.options.max_new_tokens
    scored = count_tokens(questions.held_out)
    if proof is not None:
        tokens += _batches(len(proof.prompts)) * NEW_TOKENS
        scored += count_tokens(proof.sample) + count_tokens(proof.general)
    return Around(before, MODELS * tokens * per_token, MODELS * scored)


def _batches(prompts: int) -> int:
    return math.ceil(prompts / BATCH_SIZE)


def seconds_per_token(model: torch.nn.Module, questions: Questions) -> float:
    """A token of every answer of a batch, the reading of the prompts counted as one."""
    prompts = questions.prompts[:BATCH_SIZE]
    seconds = 0.0
    for tokens in (1, TIMED):
        options = replace(questions.options, max_new_tokens=tokens, do_sample=False)
        began = time.perf_counter()
        generate(model, questions.tokenizer, prompts, options, questions.prompt_format)
        seconds = time.perf_counter() - began
    return seconds / TIMED
