"""Text from a model: greedy by default, with the article's repetition penalty.

Prompts are answered together, padded on the left, with a cache of keys and values; the answers are
those that each prompt would get alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lorita.data.tokens.prompt_format import PromptFormat
from lorita.errors import SettingsError
from lorita.inference.prompt_length import positions_in_table, prompt_ids

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

BATCH_SIZE = 8
"""Prompts answered together."""
BASE = "__base__"
"""PEFT's name for a row of a batch that no adapter answers."""


@dataclass(frozen=True)
class GenerationOptions:
    """Options under transformers' names. Without ``do_sample`` the likeliest token is taken."""

    max_new_tokens: int = 100
    repetition_penalty: float = 1.5
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    seed: int = 42

    def __post_init__(self) -> None:
        problems = [
            f"{name} = {getattr(self, name)}: should be {rule}"
            for name, holds, rule in (
                ("max_new_tokens", self.max_new_tokens >= 1, "1 or more"),
                ("repetition_penalty", self.repetition_penalty > 0, "greater than 0"),
                ("temperature", self.temperature > 0, "greater than 0"),
                ("top_k", self.top_k >= 0, "0 (off) or more"),
                ("top_p", 0 < self.top_p <= 1, "between 0 and 1"),
            )
            if not holds
        ]
        if problems:
            raise SettingsError(problems)


@dataclass(frozen=True)
class Question:
    """One prompt: how it is put, and the adapter that answers it where there are several."""

    prompt: str
    prompt_format: PromptFormat = field(default_factory=PromptFormat)
    adapter: str | None = None


def generate(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    options: GenerationOptions | None = None,
    prompt_format: PromptFormat | None = None,
) -> list[str]:
    """What ``model`` adds to each prompt, up to the end-of-text token or ``max_new_tokens``.

    With the ``prompt_format`` of a chat, each prompt is one question, put through the template,
    and the end of the turn ends the answer.
    """
    asked = prompt_format or PromptFormat()
    return answer(model, tokenizer, [Question(prompt, asked) for prompt in prompts], options)


def answer(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    options: GenerationOptions | None = None,
) -> list[str]:
    """The answers to the questions, in their order, computed in batches of ``BATCH_SIZE``.

    Greedy answers are those that a prompt would get alone, up to the rounding of sums of another
    shape. Drawn ones depend on the batch: the seed is set once, before the first.
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
    try:
        for batch, room in _batches(questions, rows, tokenizer, options.max_new_tokens, places):
            within = replace(options, max_new_tokens=room)
            made = _continue(model, tokenizer, batch, questions, rows, within)
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
) -> list[tuple[list[int], int]]:
    """Numbers of questions that are answered together, and how many tokens they may get: the
    same stop tokens, the same room up to the end of the position table, near in length."""
    alike: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for number, question in enumerate(questions):
        room = max_new_tokens
        if places is not None:
            room = min(room, places - len(rows[number]))
        alike.setdefault((room, tuple(question.prompt_format.stops(tokenizer))), []).append(number)
    batches = []
    for (room, _), numbers in alike.items():
        numbers.sort(key=lambda number: len(rows[number]))
        batches += [(numbers[i : i + BATCH_SIZE], room) for i in range(0, len(numbers), BATCH_SIZE)]
    return batches


def _continue(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    batch: Sequence[int],
    questions: Sequence[Question],
    rows: Sequence[list[int]],
    options: GenerationOptions,
) -> list[list[int]]:
    """The new tokens of each question of a batch, without what pads them."""
    import torch

    stops = questions[batch[0]].prompt_format.stops(tokenizer)
    config = transformers_options(model, tokenizer, options, stops)
    longest = max(len(rows[number]) for number in batch)
    pad = int(tokenizer.eos_token_id)
    device = next(model.parameters()).device
    ids_BL = torch.tensor([[pad] * (longest - len(rows[n])) + rows[n] for n in batch])
    mask_BL = torch.tensor([[0] * (longest - len(rows[n])) + [1] * len(rows[n]) for n in batch])
    how: dict[str, Any] = {"generation_config": config}
    if options.repetition_penalty != 1.0:
        how["logits_processor"] = _penalty(options.repetition_penalty, mask_BL.to(device))
    adapters = [questions[number].adapter for number in batch]
    if any(adapters):
        how["adapter_names"] = adapters
    with torch.inference_mode():
        output_BL = model.generate(
            input_ids=ids_BL.to(device), attention_mask=mask_BL.to(device), **how
        )
    return [until_stop(row, set(config.eos_token_id)) for row in output_BL[:, longest:].tolist()]


def until_stop(ids: list[int], stops: set[int]) -> list[int]:
    """The tokens up to the first that ends the answer, that one included."""
    end = next((place for place, token in enumerate(ids, 1) if token in stops), len(ids))
    return ids[:end]


def _penalty(penalty: float, mask_BL: Tensor) -> Any:
    """transformers' repetition penalty (CTRL, arXiv:1909.05858), which here passes over padding:
    the padding token also ends texts, and must not become less likely for that."""
    import torch
    from transformers import LogitsProcessorList

    def process(ids_BL: Tensor, scores_BV: Tensor) -> Tensor:
        prompt = mask_BL.shape[1]
        real_BL = torch.ones_like(ids_BL, dtype=torch.bool)
        real_BL[:, :prompt] = mask_BL.bool()
        seen_BL = torch.where(real_BL, ids_BL, ids_BL[:, prompt - 1 : prompt])
        score_BL = scores_BV.gather(1, seen_BL)
        score_BL = torch.where(score_BL < 0, score_BL * penalty, score_BL / penalty)
        return scores_BV.scatter(1, seen_BL, score_BL)

    return LogitsProcessorList([process])


def transformers_options(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    options: GenerationOptions,
    stop_ids: Sequence[int],
) -> Any:
    """Everything that steers ``generate``, so that nothing comes from the model's own defaults."""
    from transformers import GenerationConfig

    stops = set(stop_ids)
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    stops |= set(own if isinstance(own, list) else [own] if own is not None else [])
    sampling: dict[str, Any] = {}
    if options.do_sample:
        sampling = {
            "temperature": options.temperature,
            "top_k": options.top_k,
            "top_p": options.top_p,
        }
    return GenerationConfig(
        max_new_tokens=options.max_new_tokens,
        repetition_penalty=1.0,  # ours passes over padding, see _penalty
        do_sample=options.do_sample,
        eos_token_id=sorted(stops),
        pad_token_id=tokenizer.eos_token_id,
        use_cache=True,
        **sampling,
    )
