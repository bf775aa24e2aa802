"""``lorita generate``: text from a base model or a run."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lorita.cli.options import (
    ENGINE_HELP,
    LIKELIEST,
    BasePlace,
    Dtype,
    Engine,
    Length,
    Penalty,
    SamplingFlags,
)
from lorita.cli.render import console

if TYPE_CHECKING:
    from lorita.inference.generation import GenerationOptions


def command(
    run_or_model: Annotated[str, Parameter(help="A run folder, or a model as --model takes it.")],
    prompt: Annotated[str, Parameter(help="The text to continue.")],
    /,
    *,
    max_new_tokens: Length = 100,
    repetition_penalty: Penalty = 1.5,
    sampling: SamplingFlags = LIKELIEST,
    dtype: Dtype = "auto",
    engine: Annotated[Engine, Parameter(help=ENGINE_HELP)] = "transformers",
    base: BasePlace = None,
    completion_only: Annotated[bool, Parameter(help="Do not repeat the prompt.")] = False,
) -> None:
    """Write text with a base model or a run: the prompt and what the model adds to it."""
    from lorita.inference.generation import GenerationOptions

    options = GenerationOptions(max_new_tokens, repetition_penalty, **asdict(sampling))
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
    from lorita.export.llamacpp import model as llama_model
    from lorita.inference.generation import generate
    from lorita.inference.load import load_any

    if engine == "llama.cpp":
        model = llama_model.load(name, base=base, dtype=dtype)
        return model.answer([prompt], options)[0], model.prompt_format.template is not None
    tuned = load_any(name, base=base, dtype=dtype)
    answer = generate(tuned.model, tuned.tokenizer, [prompt], options, tuned.prompt_format)[0]
    return answer, tuned.prompt_format.template is not None
