"""The prompts and rows that a run measures base and tuned model with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lorita.evaluation.measure import ANSWERS, Questions, make_proof_questions
from lorita.evaluation.prompts import prompts_of
from lorita.evaluation.proof_size import ProofRows, choose_rows
from lorita.inference.generation import GenerationOptions
from lorita.inference.prompt_length import fits, positions_in_table, prompt_ids

if TYPE_CHECKING:
    import torch

    from lorita.runs.prepare import Prepared
    from lorita.settings.schema import RunSettings


def comparison_prompts(
    settings: RunSettings, prepared: Prepared, model: torch.nn.Module
) -> list[str]:
    """The prompts to answer before and after: the user's own, or three taken from the rows.

    Raises ``SettingsError`` for a prompt that does not fit the model's context.
    """
    tokenizer, asked = prepared.tokenizer, prepared.data.prompt_format
    for prompt in settings.compare_prompt:
        prompt_ids(tokenizer, prompt, asked, positions_in_table(model))
    return settings.compare_prompt or _prompts_of_rows(prepared, model, 3)


def _prompts_of_rows(prepared: Prepared, model: torch.nn.Module, count: int) -> list[str]:
    tokenizer, asked = prepared.tokenizer, prepared.data.prompt_format
    until = None if prepared.invocation is None else prepared.invocation.text
    return prompts_of(prepared.data.shown, count, fits(model, tokenizer, asked), until)


def make_questions(
    settings: RunSettings,
    prepared: Prepared,
    model: torch.nn.Module,
    prompts: Sequence[str],
    *,
    trained_tokens: int | None,
) -> Questions:
    """Everything to measure: prompts, held-out rows and, if requested, the proof's questions.

    Of the rows, as many are taken as a training of so many tokens pays for; all with None.
    """
    data, tokenizer = prepared.data, prepared.tokenizer
    options = GenerationOptions(
        max_new_tokens=settings.max_new_tokens, repetition_penalty=settings.repetition_penalty
    )
    proof = None
    if settings.proof:
        proof = make_proof_questions(
            tokenizer,
            data.prompt_format,
            _prompts_of_rows(prepared, model, ANSWERS),
            held_out=data.held_out,
            train=data.train,
        )
    questions = Questions(
        tokenizer, data.prompt_format, prompts, options, data.held_out, proof,
        invocation=prepared.invocation_tokens,
    )  # fmt: skip
    return questions if trained_tokens is None else affordable(questions, trained_tokens)


def affordable(questions: Questions, trained_tokens: int) -> Questions:
    """The questions with as many rows as a training of so many tokens pays for."""
    proof = questions.proof
    whole = ProofRows(
        questions.held_out, proof.general if proof else (), proof.sample if proof else ()
    )
    rows = choose_rows(whole, trained_tokens)
    if proof is not None:
        proof = replace(proof, held_out=rows.held_out, general=rows.general, sample=rows.training)
    return replace(questions, held_out=rows.held_out, proof=proof, left_out=rows.line(whole))
