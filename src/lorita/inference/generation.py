"""Text from a model through transformers: greedy by default, with a repetition penalty.

Prompts are answered in batches where that changes nothing, padded on the left, with a cache of keys
and values. Each answer is the one that its prompt would get alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lorita.data.tokens.prompt_format import PromptFormat
from lorita.errors import ModelError, RunFailed
from lorita.inference.batching import can_answer_together
from lorita.inference.options import GenerationOptions as GenerationOptions
from lorita.inference.options import transformers_options
from lorita.inference.prompt_length import positions_in_table, prompt_ids
from lorita.system.memory import is_out_of_memory

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

BATCH_SIZE = 8
"""Prompts answered together."""
BASE = "__base__"
"""PEFT's name, among the adapters of a batch, for rows that the base answers."""


Advance = Callable[[float], None]


class _Progress:
    """Answers that are done, told to ``advance`` token by token; an answer may end early."""

    def __init__(self, advance: Advance | None) -> None:
        self._advance, self._of_batch = advance, 0.0

    def each_token(self, share: float) -> Callable[[Tensor, Tensor], Tensor]:
        """A processor of logits that changes nothing: each token is ``share`` of an answer."""
        self._tell(-self._of_batch)  # a batch that is tried again begins again
        self._of_batch = 0.0

        def step(ids_BL: Tensor, scores_BV: Tensor) -> Tensor:
            self._of_batch += share
            self._tell(share)
            return scores_BV

        return step

    def batch_done(self, answers: int) -> None:
        """All of a batch's answers are done."""
        self._tell(answers - self._of_batch)
        self._of_batch = 0.0

    def _tell(self, share: float) -> None:
        if self._advance is not None and share:
            self._advance(share)


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
    """Answer the questions in batches of ``BATCH_SIZE``; returns the answers in the same order.

    ``advance`` is told how many more answers are done, parts of one included. A greedy answer is
    the one that its prompt would get alone, except where the batch changes how sums are rounded.
    Sampled answers depend on the batch: the seed is set once, before the first.
    """
    import torch

    options = options or GenerationOptions()
    places = positions_in_table(model)
    rows = [prompt_ids(tokenizer, asked.prompt, asked.prompt_format, places) for asked in questions]
    answers = [""] * len(questions)
    was_training = model.training
    model.eval()
    if options.do_sample:
        torch.manual_seed(options.seed)
    room_for = options.max_new_tokens
    progress = _Progress(advance)
    size = BATCH_SIZE if len(rows) > 1 and can_answer_together(model) else 1
    try:
        waiting = _batches(questions, rows, tokenizer, room_for, places, size=size)
        while waiting:
            batch, room = waiting.pop(0)
            within = replace(options, max_new_tokens=room)
            within = within.for_prompts(questions[batch[0]].prompt_format)
            answer = partial(_continue, model, tokenizer, batch, questions, rows, within, progress)
            made = _if_it_fits(answer, [len(rows[number]) for number in batch])
            if made is None:
                half = len(batch) // 2
                waiting[:0] = [(batch[:half], room), (batch[half:], room)]
                continue
            progress.batch_done(len(batch))
            for number, new in zip(batch, made, strict=True):
                answers[number] = questions[number].prompt_format.answer(tokenizer, new)
    finally:
        model.train(was_training)
    return answers


def _batches(
    questions: Sequence[Question],
    rows: Sequence[list[int]],
    tokenizer: PreTrainedTokenizerBase,
    max_new_tokens: int,
    places: int | None,
    *,
    size: int,
) -> list[tuple[list[int], int]]:
    """The batches: indices of questions, and how many new tokens they may have.

    The questions of a batch have the same stop tokens, the same repetition penalty and the same
    room up to the end of the position table (``places``, if the model has one); they are sorted by
    length. ``size`` is how many a batch has at most.
    """
    alike: dict[tuple[int, float, tuple[int, ...]], list[int]] = {}
    for number, question in enumerate(questions):
        room = max_new_tokens
        if places is not None:
            room = min(room, places - len(rows[number]))
        form = question.prompt_format
        alike.setdefault((room, form.penalty, tuple(form.stops(tokenizer))), []).append(number)
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
        raise RunFailed(
            f"an answer to a prompt of {lengths[0]} tokens does not fit in memory",
            hint="Lower --max-new-tokens, give a shorter prompt, or allow more memory.",
        ) from error


def _continue(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    batch: Sequence[int],
    questions: Sequence[Question],
    rows: Sequence[list[int]],
    options: GenerationOptions,
    progress: _Progress,
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
    step = progress.each_token(len(batch) / options.max_new_tokens)
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
    if not scores_BV.amax(-1).isfinite().all():  # NaN is the largest of all
        raise ModelError(
            "the model's answer is not numbers (NaN or infinity), so it has no likeliest token",
            hint="Its weights are damaged, or the number format is too narrow for it: try "
            "--dtype float32.",
        )
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
