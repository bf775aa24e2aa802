"""One model, measured: its answers, its loss on held-out rows, and what the proof needs.

Two measurements with the same questions, of the base and of the tuned model, are a comparison and
make the proof. Each model is asked while it is in memory: the tuned one before its adapter is
taken off, the base after that.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorita.evaluation.general_passages import general_examples
from lorita.evaluation.intervals import Change, change_of
from lorita.evaluation.memorised import copied, extracted, sample_rows
from lorita.evaluation.proof import Forgot, Learned, Memorised, Proof
from lorita.evaluation.scores import divergences, read_states, score_rows
from lorita.inference.generation import GenerationOptions, generate
from lorita.training.events import Event, PhaseStarted

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from lorita.data.examples import Example
    from lorita.data.tokens.prompt_format import PromptFormat
    from lorita.evaluation.row_losses import HeldOutLoss
    from lorita.evaluation.scores import Scores, States

ANSWERS = 8
"""Prompts that the proof has answered freely, to look for copies of training rows."""
NEW_TOKENS = 40


@dataclass(frozen=True)
class ProofQuestions:
    """What the proof asks both models. ``train`` is empty where the training rows are unknown."""

    held_out: Sequence[Example]
    train: Sequence[Example]
    sample: Sequence[Example]
    general: Sequence[Example]
    prompts: Sequence[str]
    prompt_format: PromptFormat
    tokenizer: PreTrainedTokenizerBase


@dataclass(frozen=True)
class ProofAnswers:
    """What one model answered; ``answers`` are tokens, one list for each prompt."""

    held_out: HeldOutLoss | None
    sample: Scores | None
    general: States
    answers: list[list[int]]


@dataclass(frozen=True)
class Questions:
    """What base and tuned model are asked at the end of a run.

    ``prompts`` are answered with ``options`` for the comparison. Without ``proof`` only the loss
    on ``held_out`` is measured. ``left_out`` says which rows are not measured, if any. After an
    ``invocation``, an activated adapter acts.
    """

    tokenizer: PreTrainedTokenizerBase
    prompt_format: PromptFormat
    prompts: Sequence[str]
    options: GenerationOptions
    held_out: Sequence[Example]
    proof: ProofQuestions | None
    left_out: str | None = None
    invocation: tuple[int, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What one model said. ``logits`` [V] are those after each prompt, without its template."""

    answers: list[str]
    logits: list[torch.Tensor]
    held_out: HeldOutLoss | None
    proof: ProofAnswers | None


def measure(
    model: torch.nn.Module, questions: Questions, who: str
) -> Generator[Event, None, Measured]:
    """Ask ``model``, as it is now, everything in ``questions``; ``who`` is what people call it."""
    yield (phase := PhaseStarted(f"Asking {who}", len(questions.prompts), "answers"))
    answers = generate(
        model,
        questions.tokenizer,
        questions.prompts,
        questions.options,
        questions.prompt_format,
        advance=phase.advance,
    )
    logits = [_logits(model, questions, prompt) for prompt in questions.prompts]
    if questions.proof is not None:
        proof = yield from ask(model, questions.proof, who)
        return Measured(answers, logits, proof.held_out, proof)
    yield (phase := PhaseStarted(f"Scoring rows with {who}", len(questions.held_out), "rows"))
    held_out = _losses(model, questions.held_out, phase)
    return Measured(answers, logits, held_out, None)


def _losses(
    model: torch.nn.Module, rows: Sequence[Example], phase: PhaseStarted
) -> HeldOutLoss | None:
    """The loss of each row, on the model's device; None where there are no rows."""
    if not rows:
        return None
    return score_rows(model, rows, _device(model), advance=phase.advance).rows()


def _device(model: torch.nn.Module) -> torch.device:
    return next(model.parameters()).device


def prompt_tensor(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    invocation: Sequence[int] = (),
) -> torch.Tensor:
    """The prompt's tokens as text and those of the invocation, [1, L], on the model's device."""
    import torch

    ids: list[int] = tokenizer(prompt)["input_ids"]
    return torch.tensor([[*ids, *invocation]], device=_device(model))


def _logits(model: torch.nn.Module, questions: Questions, prompt: str) -> torch.Tensor:
    import torch

    from lorita.engine.causal_lm import last_logits

    model.eval()
    with torch.no_grad():
        ids_1L = prompt_tensor(model, questions.tokenizer, prompt, questions.invocation)
        return last_logits(model, ids_1L)[0]


def make_proof_questions(
    tokenizer: PreTrainedTokenizerBase,
    asked: PromptFormat,
    prompts: Sequence[str],
    *,
    held_out: Sequence[Example],
    train: Sequence[Example],
) -> ProofQuestions:
    """The rows, the general passages and the prompts, as tokens."""
    sample, general = sample_rows(train), general_examples(tokenizer)
    return ProofQuestions(held_out, train, sample, general, prompts[:ANSWERS], asked, tokenizer)


Writer = Callable[[Sequence[str], GenerationOptions], list[str]]
"""What answers prompts in the model's place: another program with the same weights."""


def ask(
    model: torch.nn.Module, questions: ProofQuestions, who: str, writer: Writer | None = None
) -> Generator[Event, None, ProofAnswers]:
    """All that the proof needs to know of the model as it is now."""
    device, sample = _device(model), questions.sample
    rows = len(questions.held_out) + len(sample)
    yield (phase := PhaseStarted(f"Scoring rows with {who}", rows, "rows"))
    held_out = _losses(model, questions.held_out, phase)
    of_sample = score_rows(model, sample, device, advance=phase.advance) if sample else None
    text = f"Reading general passages with {who}"
    yield (phase := PhaseStarted(text, len(questions.general), "passages"))
    general = read_states(model, questions.general, device, advance=phase.advance)
    answers: list[list[int]] = []
    if questions.prompts and sample:
        text = f"Testing what {who} memorised"
        yield (phase := PhaseStarted(text, len(questions.prompts), "answers"))
        answers = _answers(model, questions, writer, phase)
    return ProofAnswers(held_out, of_sample, general, answers)


def _answers(
    model: torch.nn.Module, questions: ProofQuestions, writer: Writer | None, phase: PhaseStarted
) -> list[list[int]]:
    """Free answers as tokens; without a penalty, which would keep a model from copying."""
    tokenizer, options = questions.tokenizer, GenerationOptions(NEW_TOKENS, repetition_penalty=1.0)
    if writer is not None:
        texts = writer(questions.prompts, options)
    else:
        texts = generate(
            model, tokenizer, questions.prompts, options, questions.prompt_format,
            advance=phase.advance,
        )  # fmt: skip
    return [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]


def make_proof(
    questions: ProofQuestions, base: ProofAnswers, tuned: ProofAnswers
) -> Generator[Event, None, Proof]:
    """The figures of both side by side."""
    sample = questions.sample
    text = "Comparing what both predict on general passages"
    yield (phase := PhaseStarted(text, len(tuned.general.hidden_ND), "tokens"))
    distances = divergences(tuned.general, base.general, advance=phase.advance)
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
            float(distances.double().mean()),
        ),
        _memorised(questions, base, tuned),
    )


def _rows(scores: Scores | None) -> HeldOutLoss | None:
    return scores.rows() if scores is not None else None


def _change(base: HeldOutLoss | None, tuned: HeldOutLoss | None) -> Change | None:
    return change_of(base, tuned) if base is not None and tuned is not None else None


def _memorised(
    questions: ProofQuestions, base: ProofAnswers, tuned: ProofAnswers
) -> Memorised | None:
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
