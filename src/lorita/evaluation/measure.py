"""One model, asked everything that the proof needs; two of them, base and tuned, make the proof.

Each is asked when it is in memory: the tuned one before its adapter is taken off, the base after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorita.data.tokens.prompt_format import PromptFormat
from lorita.data.tokens.tokenize import Example
from lorita.evaluation.general_passages import general_examples
from lorita.evaluation.intervals import Change, change_of
from lorita.evaluation.memorised import copied, extracted, sample_rows
from lorita.evaluation.proof import Forgot, Learned, Memorised, Proof
from lorita.evaluation.row_losses import HeldOutLoss
from lorita.evaluation.scores import Scores, States, divergences, read_states, score_rows
from lorita.inference.generation import GenerationOptions, generate

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

ANSWERS = 8
"""Prompts that are answered freely."""
NEW_TOKENS = 40


@dataclass(frozen=True)
class Questions:
    """What both models are asked. ``train`` is empty where the training rows are not known."""

    held_out: Sequence[Example]
    train: Sequence[Example]
    sample: Sequence[Example]
    general: Sequence[Example]
    prompts: Sequence[str]
    prompt_format: PromptFormat
    tokenizer: PreTrainedTokenizerBase


@dataclass(frozen=True)
class Witness:
    """What one model answered."""

    held_out: HeldOutLoss | None
    sample: Scores | None
    general: States
    answers: list[list[int]]


def make_questions(
    tokenizer: PreTrainedTokenizerBase,
    asked: PromptFormat,
    prompts: Sequence[str],
    *,
    held_out: Sequence[Example],
    train: Sequence[Example],
) -> Questions:
    """The rows and prompts, as tokens."""
    sample, general = sample_rows(train), general_examples(tokenizer)
    return Questions(held_out, train, sample, general, prompts[:ANSWERS], asked, tokenizer)


Writer = Callable[[Sequence[str], GenerationOptions], list[str]]
"""What answers prompts in the model's place: another program with the same weights."""


def ask(
    model: torch.nn.Module,
    questions: Questions,
    device: torch.device,
    writer: Writer | None = None,
) -> Witness:
    """All answers of the model as it is now."""
    held, sample = questions.held_out, questions.sample
    return Witness(
        score_rows(model, held, device).rows() if held else None,
        score_rows(model, sample, device) if sample else None,
        read_states(model, questions.general, device),
        _answers(model, questions, writer) if questions.prompts and sample else [],
    )


def _answers(
    model: torch.nn.Module, questions: Questions, writer: Writer | None
) -> list[list[int]]:
    """Free answers as tokens; without a penalty, which would keep a model from copying."""
    tokenizer, options = questions.tokenizer, GenerationOptions(NEW_TOKENS, repetition_penalty=1.0)
    if writer is not None:
        texts = writer(questions.prompts, options)
    else:
        texts = generate(model, tokenizer, questions.prompts, options, questions.prompt_format)
    return [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]


def make_proof(questions: Questions, base: Witness, tuned: Witness) -> Proof:
    """The figures of both side by side."""
    sample = questions.sample
    return Proof(
        Learned(
            len(questions.held_out),
            _change(base.held_out, tuned.held_out),
            len(sample),
            _change(_rows(base.sample), _rows(tuned.sample)),
        ),
        Forgot(
            len(questions.general),
            change_of(base.general.scores().rows(), tuned.general.scores().rows()),
            float(divergences(tuned.general, base.general).double().mean()),
        ),
        _memorised(questions, base, tuned),
    )


def _rows(scores: Scores | None) -> HeldOutLoss | None:
    return scores.rows() if scores is not None else None


def _change(base: HeldOutLoss | None, tuned: HeldOutLoss | None) -> Change | None:
    return change_of(base, tuned) if base is not None and tuned is not None else None


def _memorised(questions: Questions, base: Witness, tuned: Witness) -> Memorised | None:
    if base.sample is None or tuned.sample is None:
        return None
    extracted_base, _ = extracted(questions.sample, base.sample)
    extracted_tuned, asked = extracted(questions.sample, tuned.sample)
    copied_base, written_base = copied(base.answers, questions.train)
    copied_tuned, written = copied(tuned.answers, questions.train)
    return Memorised(
        rows=asked,
        extracted_base=extracted_base,
        extracted=extracted_tuned,
        written_base=written_base,
        copied_base=copied_base,
        written=written,
        copied=copied_tuned,
    )
