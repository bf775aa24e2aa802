"""``lorita generate``: text from a run or a base model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
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
from lorita.cli.say import say_exactly
from lorita.cli.waiting import waiting


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
    from lorita.inference.options import GenerationOptions

    options = GenerationOptions(max_new_tokens, repetition_penalty, **asdict(sampling))
    options.warn_of_unused()
    with waiting() as show:
        from lorita.inference.resolve import resolve
        from lorita.training.events import PhaseStarted
        from lorita.workflows.answering import open_answers

        resolved = resolve(run_or_model, base, trust_remote_code=trust_remote_code)
        show(PhaseStarted(f"Loading {resolved.base.name}"))
        model = open_answers(resolved, dtype=dtype, engine=engine)
        show(phase := PhaseStarted("Answering", max_new_tokens, "tokens at most"))
        tokens = partial(_in_tokens, phase.advance, max_new_tokens)
        answer = model.answer([prompt], options, advance=tokens)[0]
    from lorita.workflows.screen import styled

    end = "\n" if model.prompt_format.template is not None else ""
    if sys.stdout.isatty():
        asked = styled("" if completion_only else f"{prompt}{end}", "dim")
        console().print(asked.append_text(styled(answer)))
    else:
        say_exactly(answer if completion_only else f"{prompt}{end}{answer}")


def _in_tokens(advance: Callable[[float], None], tokens: int, answers: float) -> None:
    advance(answers * tokens)
