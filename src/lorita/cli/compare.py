"""``lorita compare``: base and tuned model side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lorita.cli.options import ENGINE_HELP, BasePlace, Dtype, Engine, Length, Penalty
from lorita.cli.render import print_comparison


def command(
    run: Annotated[Path, Parameter(help="A run folder, or any PEFT LoRA folder.")],
    /,
    *,
    prompt: Annotated[
        list[str] | None, Parameter(help="Answer this one (repeatable).", negative=())
    ] = None,
    max_new_tokens: Length = 50,
    repetition_penalty: Penalty = 1.5,
    dtype: Dtype = "auto",
    engine: Annotated[Engine, Parameter(help=ENGINE_HELP)] = "transformers",
    base: BasePlace = None,
) -> None:
    """Show base and tuned model side by side.

    Without --prompt: what was saved at the end of the run. With it: both models answer anew.
    """
    from lorita.evaluation.comparison import read_comparison
    from lorita.inference.generation import GenerationOptions
    from lorita.workflows.compare import compare_prompts

    if not prompt:
        print_comparison(read_comparison(run))
        return
    options = GenerationOptions(max_new_tokens, repetition_penalty)
    print_comparison(compare_prompts(run, prompt, options, base=base, dtype=dtype, engine=engine))
