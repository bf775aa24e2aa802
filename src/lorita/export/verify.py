"""Checks that an exported model equals base and adapter, by giving both the same prompts.

The reference (base and adapter) is asked first. Its answers and logits are kept, so the model
itself can be freed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.errors import UserError
from lorita.evaluation.comparison import read_comparison
from lorita.inference.through_transformers import MODEL_FAULTS, refuse_no_numbers
from lorita.models.context import context_length
from lorita.system.counted import counted
from lorita.training.events import OnEvent, PhaseStarted, unseen

if TYPE_CHECKING:
    import torch

TOKENS = 32
"""Length of the answers that are compared."""
LOGITS_KEPT = 8
"""For the first prompts, logits are compared; for the rest, only tokens."""
PROMPTS = (
    "The most important thing about bread is",
    "I want you to act as a gardener.",
    "Once upon a time there was a teacher who",
)
"""Used where a folder has no prompts of its own."""


@dataclass(frozen=True)
class Reference:
    """The answer of base and adapter to one prompt."""

    prompt: str
    ids: list[int]
    answer: list[int]
    logits_NV: torch.Tensor | None
    """After the prompt and after each token of the answer; float32. None beyond ``LOGITS_KEPT``."""


@dataclass(frozen=True)
class Agreement:
    """How close a model is to the reference, over all prompts: logits, and equal tokens."""

    prompts: int
    largest_difference: float
    equal: int
    tokens: int

    def line(self) -> str:
        """The agreement in one line of text."""
        share = 100.0 * self.equal / max(1, self.tokens)
        return (
            f"largest logit difference {self.largest_difference:.1e}, "
            f"{share:.1f} % of {counted(self.tokens, 'greedy token')} equal, on "
            f"{counted(self.prompts, 'prompt')}"
        )


def prompts_of_run(folder: Path) -> list[str]:
    """The comparison prompts of the run in ``folder``; ``PROMPTS`` if it has none."""
    try:
        return [answer.prompt for answer in read_comparison(folder).answers] or list(PROMPTS)
    except UserError:
        return list(PROMPTS)


def ask_reference(
    tuned: Any, prompts: Sequence[str], on_event: OnEvent = unseen
) -> list[Reference]:
    """Answer the prompts greedily with base and adapter; prompts without tokens are skipped."""
    on_event(phase := PhaseStarted("Asking base and adapter", len(prompts), "prompts"))
    context = context_length(tuned.model.get_base_model().config) or 2048
    longest = max(1, context - TOKENS)  # leave room for the answer
    stops = set(tuned.prompt_format.stops(tuned.tokenizer))
    found = []
    for number, prompt in enumerate(prompts):
        phase.count.done = number
        ids = tuned.prompt_format.ids(tuned.tokenizer, prompt)[:longest]
        if not ids:
            continue
        answer = _greedy(tuned.model, ids, stops)
        logits = _logits(tuned.model, ids, answer) if number < LOGITS_KEPT else None
        found.append(Reference(prompt, list(ids), answer, logits))
    return found


def _greedy(model: Any, ids: Sequence[int], stops: set[int]) -> list[int]:
    """The greedy answer, up to and excluding the first stop token."""
    import torch

    step = torch.tensor([list(ids)])
    answer: list[int] = []
    cache, caches = None, True
    with torch.inference_mode():
        while len(answer) < TOKENS:
            known: dict[str, Any] = {} if cache is None else {"past_key_values": cache}
            try:
                output = model(input_ids=step, use_cache=caches, **known)
            except MODEL_FAULTS:
                if not caches:
                    raise
                caches, cache, step = False, None, torch.tensor([[*ids, *answer]])
                continue
            cache = getattr(output, "past_key_values", None)
            token = int(output.logits[0, -1].argmax())
            if token in stops:
                break
            answer.append(token)
            # Recurrent models keep their state in ways of their own: they read everything again.
            step = torch.tensor([[token] if cache is not None else [*ids, *answer]])
    return answer


def _logits(model: Any, ids: Sequence[int], answer: Sequence[int]) -> torch.Tensor:
    import torch

    from lorita.engine.causal_lm import last_logits

    with torch.inference_mode():
        logits_NV = last_logits(model, torch.tensor([[*ids, *answer]]), len(answer) + 1).float()
    return refuse_no_numbers(logits_NV, logits_NV)


def with_logits(model: Any, references: Sequence[Reference]) -> list[Reference]:
    """The same prompts and answers, with the logits of another model."""
    return [replace(one, logits_NV=_logits(model, one.ids, one.answer)) for one in references]


def adapter_effect(model: Any, references: Sequence[Reference]) -> float:
    """The largest change that the adapter of ``model`` makes to the logits of the references.

    Trained biases and whole modules stay in place: without them it would be more.
    """
    kept = [one for one in references if one.logits_NV is not None]
    with model.disable_adapter():
        bare = with_logits(model, kept)
    changes = (
        float((one.logits_NV - other.logits_NV).abs().max())
        for one, other in zip(kept, bare, strict=True)
        if one.logits_NV is not None and other.logits_NV is not None
    )
    return max(changes, default=0.0)


def agreement(model: Any, references: Sequence[Reference], on_event: OnEvent = unseen) -> Agreement:
    """Compare the predictions of ``model`` with the references, token by token."""
    on_event(phase := PhaseStarted("Asking the merged model", len(references), "prompts"))
    largest, equal, tokens = 0.0, 0, 0
    for reference in references:
        logits_NV = _logits(model, reference.ids, reference.answer)
        if reference.logits_NV is not None:
            distance = float((logits_NV - reference.logits_NV).abs().max())
            largest = distance if not distance <= largest else largest  # NaN is the largest
        likeliest = logits_NV[: len(reference.answer)].argmax(-1).tolist()
        equal += sum(a == b for a, b in zip(likeliest, reference.answer, strict=True))
        tokens += len(reference.answer)
        phase.advance()
    return Agreement(len(references), largest, equal, tokens)
