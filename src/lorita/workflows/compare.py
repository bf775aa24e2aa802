"""Base and tuned model asked the same new prompts: ``lorita compare RUN --prompt``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.evaluation.comparison import Comparison, compared
from lorita.inference.resolve import resolve_adapter
from lorita.training.events import OnEvent, PhaseStarted, unseen
from lorita.workflows.answering import open_answers

if TYPE_CHECKING:
    from lorita.inference.generation import GenerationOptions


def compare_prompts(
    run: str | Path,
    prompts: Sequence[str],
    options: GenerationOptions,
    *,
    base: str | None = None,
    dtype: str = "auto",
    engine: str = "transformers",
    trust_remote_code: bool = False,
    on_event: OnEvent = unseen,
) -> Comparison:
    """Both models' answers to new prompts.

    ``base`` says where the base model is, if it has moved since training. Raises ``AdapterError``
    if ``run`` is not an adapter or was trained on another base. ``on_event`` is told what is done.
    """
    resolved = resolve_adapter(run, base, trust_remote_code=trust_remote_code)
    on_event(PhaseStarted(f"Loading {resolved.base.name}"))
    model = open_answers(resolved, dtype=dtype, engine=engine)
    on_event(phase := PhaseStarted("Asking the base", len(prompts), "answers"))
    before = model.answer(prompts, options, with_adapter=False, advance=phase.advance)
    on_event(phase := PhaseStarted("Asking the tuned model", len(prompts), "answers"))
    after = model.answer(prompts, options, advance=phase.advance)
    return compared(model.base.name, prompts, before, after)
