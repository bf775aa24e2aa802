"""Base and tuned model asked the same new prompts: ``lorita compare RUN --prompt``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.evaluation.comparison import Comparison, compared
from lorita.inference.resolve import resolve_adapter
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
) -> Comparison:
    """Both models' answers to new prompts.

    ``base`` says where the base model is, if it has moved since training. Raises ``AdapterError``
    if ``run`` is not an adapter or was trained on another base.
    """
    resolved = resolve_adapter(run, base, trust_remote_code=trust_remote_code)
    model = open_answers(resolved, dtype=dtype, engine=engine)
    before = model.answer(prompts, options, with_adapter=False)
    return compared(model.base.name, prompts, before, model.answer(prompts, options))
