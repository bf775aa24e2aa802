"""``lorita generate``: text from a base model or a run."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lorita.cli.render import console


def command(
    run_or_model: Annotated[str, Parameter(help="A run folder, or a model as --model takes it.")],
    prompt: Annotated[str, Parameter(help="The text to continue.")],
    /,
    *,
    max_new_tokens: Annotated[int, Parameter(help="Length of the answer at most.")] = 100,
    repetition_penalty: Annotated[float, Parameter(help="1.0 is none.")] = 1.5,
    do_sample: Annotated[bool, Parameter(help="Draw instead of taking the likeliest.")] = False,
    temperature: Annotated[float, Parameter(help="With --do-sample.")] = 1.0,
    top_k: Annotated[int, Parameter(help="With --do-sample; 0 is off.")] = 50,
    top_p: Annotated[float, Parameter(help="With --do-sample.")] = 1.0,
    seed: Annotated[int, Parameter(help="With --do-sample.")] = 42,
    dtype: Annotated[str, Parameter(help="auto, float32, bfloat16 or float16.")] = "auto",
    base: Annotated[
        str | None, Parameter(help="Where the base is, if not where the run found it.")
    ] = None,
    completion_only: Annotated[bool, Parameter(help="Do not repeat the prompt.")] = False,
) -> None:
    """Write text with a base model or a run: the prompt and what the model adds to it."""
    from lorita.generation import GenerationOptions, generate
    from lorita.tuned import load_any

    options = GenerationOptions(
        max_new_tokens, repetition_penalty, do_sample, temperature, top_k, top_p, seed
    )
    tuned = load_any(run_or_model, base=base, dtype=dtype)
    answer = generate(tuned.model, tuned.tokenizer, [prompt], options, tuned.prompt_format)[0]
    chat = tuned.prompt_format.template is not None
    end = "\n" if chat else ""
    if not completion_only and console().is_terminal:
        console().print(prompt, style="dim", markup=False, end=end)
    elif not completion_only:
        print(prompt, end=end)
    print(answer)
