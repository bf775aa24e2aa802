"""Base and tuned model asked the same new prompts."""

from __future__ import annotations

from pathlib import Path

from lorita.evaluation.comparison import Comparison, compared
from lorita.inference.generation import GenerationOptions, generate
from lorita.inference.load import find_run_base, run_prompt_format, run_tokenizer, torch_dtype
from lorita.models.adapter import load_adapter
from lorita.models.adapter_sources import find_adapter
from lorita.models.base import load_model


def compare_prompts(
    run: Path,
    prompts: list[str],
    options: GenerationOptions,
    *,
    base: str | None = None,
    dtype: str = "auto",
) -> Comparison:
    """Both models' answers to new prompts; the base answers before the adapter is put on."""
    folder = find_adapter(run, base)
    found = find_run_base(folder, base)
    tokenizer = run_tokenizer(folder, found)
    model = load_model(found, torch_dtype(dtype))
    asked = run_prompt_format(folder, tokenizer)
    before = generate(model, tokenizer, prompts, options, asked)
    after = generate(load_adapter(model, folder).eval(), tokenizer, prompts, options, asked)
    return compared(found.name, prompts, before, after)
