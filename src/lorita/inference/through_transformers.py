"""Answers through transformers' ``generate``, for models that the engine does not know.

Prompts are answered in batches where that changes nothing, padded on the left, with a cache of keys
and values. Each answer is the one that its prompt would get alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lorita.errors import ModelError, RunFailed
from lorita.inference.answer_progress import AnswerProgress
from lorita.inference.batching import can_answer_together
from lorita.inference.options import GenerationOptions, transformers_options
from lorita.system.memory import is_out_of_memory

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from lorita.inference.generation import Question

BATCH_SIZE = 8
"""Prompts answered together by transformers."""


def answer_in_batches(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    rows: Sequence[list[int]],
    rooms: Sequence[int],
    options: GenerationOptions,
    progress: AnswerProgress,
) -> list[list[int]]:
    """The new tokens of each question, by transformers' ``generate``, in batches."""
    import torch

    made: list[list[int]] = [[] for _ in questions]
    was_training = model.training
    model.eval()
    if options.do_sample:
        torch.manual_seed(options.seed)
    size = BATCH_SIZE if len(rows) > 1 and can_answer_together(model) else 1
    try:
        waiting = _batches(questions, rows, rooms, tokenizer, size=size)
        while waiting:
            batch, room = waiting.pop(0)
            within = replace(options, max_new_tokens=room)
            within = within.for_prompts(questions[batch[0]].prompt_format)
            answer = partial(_continue, model, tokenizer, batch, questions, rows, within, progress)
            new = _if_it_fits(answer, [len(rows[number]) for number in batch])
            if new is None:
                half = len(batch) // 2
                waiting[:0] = [(batch[:half], room), (batch[half:], room)]
                continue
            for number, tokens in zip(batch, new, strict=True):
                made[number] = tokens
                progress.at(number, 1.0)
    finally:
        model.train(was_training)
    return made


def _batches(
    questions: Sequence[Question],
    rows: Sequence[list[int]],
    rooms: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    *,
    size: int,
) -> list[tuple[list[int], int]]:
    """The batches: indices of questions, and how many new tokens they may have.

    The questions of a batch have the same stop tokens, repetition penalty and room; they are
    sorted by length. ``size`` is how many a batch has at most.
    """
    alike: dict[tuple[int, float, tuple[int, ...]], list[int]] = {}
    for number, question in enumerate(questions):
        form = question.prompt_format
        key = (rooms[number], form.penalty, tuple(form.stops(tokenizer)))
        alike.setdefault(key, []).append(number)
    batches = []
    for (room, *_), numbers in alike.items():
        numbers.sort(key=lambda number: len(rows[number]))
        batches += [(numbers[i : i + size], room) for i in range(0, len(numbers), size)]
    return batches


def _if_it_fits(
    answer: Callable[[], list[list[int]]], lengths: Sequence[int]
) -> list[list[int]] | None:
    """What ``answer`` returns; None if memory runs out and the batch can be divided.

    ``lengths`` are the tokens of its prompts. ``RunFailed`` if a single answer does not fit.
    """
    try:
        return answer()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if len(lengths) > 1:
            return None
        raise does_not_fit(lengths[0]) from error


def _continue(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    batch: Sequence[int],
    questions: Sequence[Question],
    rows: Sequence[list[int]],
    options: GenerationOptions,
    progress: AnswerProgress,
) -> list[list[int]]:
    """The new tokens of each question in a batch, without padding."""
    import torch
    from transformers import LogitsProcessorList

    stops = questions[batch[0]].prompt_format.stops(tokenizer)
    config = transformers_options(model, tokenizer, options, stops)
    longest = max(len(rows[number]) for number in batch)
    pad = int(tokenizer.eos_token_id)
    device = next(model.parameters()).device
    ids_BL = torch.tensor([[pad] * (longest - len(rows[n])) + rows[n] for n in batch])
    mask_BL = torch.tensor([[0] * (longest - len(rows[n])) + [1] * len(rows[n]) for n in batch])
    how: dict[str, Any] = {"generation_config": config}
    step = progress.processor(batch, options.max_new_tokens)
    how["logits_processor"] = LogitsProcessorList([refuse_no_numbers, step])
    if options.penalty != 1.0:
        how["logits_processor"].append(_penalty(options.penalty, mask_BL.to(device)))
    adapters = [questions[number].adapter for number in batch]
    if any(adapters):
        how["adapter_names"] = adapters
    with torch.inference_mode():
        output_BL = _generated(model, ids_BL.to(device), mask_BL.to(device), how)
    return [until_stop(row, set(config.eos_token_id)) for row in output_BL[:, longest:].tolist()]


def _generated(model: Any, ids_BL: Tensor, mask_BL: Tensor, how: dict[str, Any]) -> Tensor:
    """Prompts and new tokens; without a cache if the model's code fails with one.

    ``ModelError`` if it fails without one, too.
    """
    inputs = {"input_ids": ids_BL, "attention_mask": mask_BL, **how}
    try:
        output_BL: Tensor = model.generate(**inputs)
    except MODEL_FAULTS as error:
        if is_out_of_memory(error) or "memory" in str(error):
            raise
        try:
            output_BL = model.generate(**inputs, use_cache=False)
        except MODEL_FAULTS:
            raise ModelError(
                f"the installed transformers cannot generate text with this model "
                f"({type(error).__name__}: {str(error).partition(chr(10))[0]})"
            ) from error
    return output_BL


MODEL_FAULTS = (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError)
"""What faults in a model's own code raise."""


def until_stop(ids: list[int], stops: set[int]) -> list[int]:
    """The tokens up to and including the first stop token."""
    end = next((place for place, token in enumerate(ids, 1) if token in stops), len(ids))
    return ids[:end]


def refuse_no_numbers(ids_BL: Tensor, scores_BV: Tensor) -> Tensor:
    """The scores as they are; ``ModelError`` if they are NaN or infinite, for then the likeliest
    token means nothing."""
    from lorita.engine.decoding.choose import require_numbers

    require_numbers(scores_BV.amax(-1))
    return scores_BV


def _penalty(penalty: float, mask_BL: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """transformers' repetition penalty (CTRL, arXiv:1909.05858), except that it ignores padding.

    The padding token is the end-of-text token: padding must not make that less likely.
    ``mask_BL`` is 1 at the tokens of the prompts and 0 at padding.
    """
    import torch

    def process(ids_BL: Tensor, scores_BV: Tensor) -> Tensor:
        prompt = mask_BL.shape[1]
        real_BL = torch.ones_like(ids_BL, dtype=torch.bool)
        real_BL[:, :prompt] = mask_BL.bool()
        seen_BL = torch.where(real_BL, ids_BL, ids_BL[:, prompt - 1 : prompt])
        score_BL = scores_BV.gather(1, seen_BL)
        score_BL = torch.where(score_BL < 0, score_BL * penalty, score_BL / penalty)
        return scores_BV.scatter(1, seen_BL, score_BL)

    return process


def does_not_fit(tokens: int) -> RunFailed:
    """The error for a single answer that is too large for this machine."""
    return RunFailed(
        f"an answer to a prompt of {tokens} tokens does not fit in memory",
        hint="Lower --max-new-tokens, give a shorter prompt, or allow more memory.",
    )
