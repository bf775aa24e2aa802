"""``lorita generate``: text from a run or a base model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

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
    TrustCode,
)
from lorita.cli.render import console


def command(
    run_or_model: Annotated[str, Parameter(help="Run folder, or base model.")],
    prompt: Annotated[str, Parameter(help="Text to continue, or question for a chat model.")],
    /,
    *,
    max_new_tokens: Length = 100,
    repetition_penalty: Penalty = None,
    sampling: SamplingFlags = LIKELIEST,
    dtype: Dtype = "auto",
    engine: Annotated[Engine, Parameter(help=ENGINE_HELP)] = "transformers",
    base: BasePlace = None,
    trust_remote_code: TrustCode = False,
    completion_only: Annotated[
        bool, Parameter(help="Print only the answer, not the prompt.")
    ] = False,
) -> None:
    """Generate text with a run or a base model.

    Prints the prompt and the model's answer to it.
    """
    from lorita.inference.generation import GenerationOptions
    from lorita.inference.resolve import resolve
    from lorita.workflows.answering import open_answers

    options = GenerationOptions(max_new_tokens, repetition_penalty, **asdict(sampling))
    options.warn_of_unused()
    resolved = resolve(run_or_model, base, trust_remote_code=trust_remote_code)
    model = open_answers(resolved, dtype=dtype, engine=engine)
    answer = model.answer([prompt], options)[0]
    end = "\n" if model.prompt_format.template is not None else ""
    if not completion_only and console().is_terminal:
        console().print(prompt, style="dim", end=end)
    elif not completion_only:
        print(prompt, end=end)
    print(answer)
