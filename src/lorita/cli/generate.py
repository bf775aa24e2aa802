"""``lorita generate``: text from a base model or a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lorita.cli.options import ENGINE_HELP, Engine
from lorita.cli.render import console

if TYPE_CHECKING:
    from lorita.generation import GenerationOptions


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
    engine: Annotated[Engine, Parameter(help=ENGINE_HELP)] = "transformers",
    base: Annotated[
        str | None, Parameter(help="Where the base is, if not where the run found it.")
    ] = None,
    completion_only: Annotated[bool, Parameter(help="Do not repeat the prompt.")] = False,
) -> None:
    """Write text with a base model or a run: the prompt and what the model adds to it."""
    from lorita.generation import GenerationOptions

    options = GenerationOptions(
        max_new_tokens, repetition_penalty, do_sample, temperature, top_k, top_p, seed
    )
    answer, chat = _answer(run_or_model, prompt, options, engine, base=base, dtype=dtype)
    end = "\n" if chat else ""
    if not completion_only and console().is_terminal:
        console().print(prompt, style="dim", markup=False, end=end)
    elif not completion_only:
        print(prompt, end=end)
    print(answer)


def _answer(
    name: str,
    prompt: str,
    options: GenerationOptions,
    engine: Engine,
    *,
    base: str | None,
    dtype: str,
) -> tuple[str, bool]:
    """The answer, and whether the prompt was put as a chat."""
    from lorita import llama_model
    from lorita.generation import generate
    from lorita.tuned import load_any

    if engine == "llama.cpp":
        model = llama_model.load(name, base=base, dtype=dtype)
        return model.answer([prompt], options)[0], model.prompt_format.template is not None
    tuned = load_any(name, base=base, dtype=dtype)
    answer = generate(tuned.model, tuned.tokenizer, [prompt], options, tuned.prompt_format)[0]
    return answer, tuned.prompt_format.template is not None
