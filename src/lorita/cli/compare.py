"""``lorita compare``: base and tuned model side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lorita.cli.render import print_comparison


def command(
    run: Annotated[Path, Parameter(help="A run folder, or any PEFT LoRA folder.")],
    /,
    *,
    prompt: Annotated[
        list[str] | None, Parameter(help="Answer this one (repeatable).", negative=())
    ] = None,
    max_new_tokens: Annotated[int, Parameter(help="Length of an answer at most.")] = 50,
    repetition_penalty: Annotated[float, Parameter(help="1.0 is none.")] = 1.5,
    dtype: Annotated[str, Parameter(help="auto, float32, bfloat16 or float16.")] = "auto",
    base: Annotated[
        str | None, Parameter(help="Where the base is, if not where the run found it.")
    ] = None,
) -> None:
    """Show base and tuned model side by side.

    Without --prompt: what was saved at the end of the run. With it: both models answer anew.
    """
    from lorita.comparison import read_comparison
    from lorita.generation import GenerationOptions
    from lorita.tuned import compare_prompts

    if not prompt:
        print_comparison(read_comparison(run))
        return
    options = GenerationOptions(max_new_tokens, repetition_penalty)
    print_comparison(compare_prompts(run, prompt, options, base=base, dtype=dtype))
