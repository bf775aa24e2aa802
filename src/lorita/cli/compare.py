"""``lorita compare``: answers of the base and the tuned model side by side."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lorita.cli.options import (
    ENGINE_HELP,
    BasePlace,
    Dtype,
    Engine,
    Json,
    Length,
    Penalty,
    TrustCode,
)
from lorita.cli.render import print_comparison
from lorita.cli.say import say, say_json
from lorita.cli.unused import say_unused
from lorita.cli.waiting import waiting

if TYPE_CHECKING:
    from lorita.evaluation.comparison import Comparison


def command(
    run: Annotated[Path, Parameter(help="Run folder, or any PEFT LoRA folder.")],
    /,
    *,
    prompt: Annotated[
        list[str] | None,
        Parameter(
            help="Prompt to answer. Repeatable. Default: show the run's saved answers.",
            metavar="STR",
            negative=(),
        ),
    ] = None,
    max_new_tokens: Length = 50,
    repetition_penalty: Penalty = None,
    dtype: Dtype = "auto",
    engine: Annotated[Engine, Parameter(help=ENGINE_HELP)] = "transformers",
    base: BasePlace = None,
    trust_remote_code: TrustCode = False,
    json: Json = False,
) -> None:
    """Show answers of the base and the tuned model side by side.

    Without --prompt, shows the answers saved at the end of the run. With it, both models answer
    again.
    """
    from lorita.evaluation.comparison import JSON_FILE, read_comparison
    from lorita.inference.options import GenerationOptions

    if not prompt:
        say_unused(
            "without --prompt: these are the answers saved at the end of the run",
            max_new_tokens=(max_new_tokens, 50),
            repetition_penalty=(repetition_penalty, None),
            dtype=(dtype, "auto"),
            engine=(engine, "transformers"),
            base=(base, None),
            trust_remote_code=(trust_remote_code, False),
        )
        _show(read_comparison(run), json=json)
        return
    options = GenerationOptions(max_new_tokens, repetition_penalty)
    with waiting() as show:
        from lorita.workflows.compare import compare_prompts

        found = compare_prompts(
            run,
            prompt,
            options,
            base=base,
            dtype=dtype,
            engine=engine,
            trust_remote_code=trust_remote_code,
            on_event=show,
        )
    _show(found, json=json)
    if (run / JSON_FILE).is_file() and not json:
        say(f"What was measured at the end of the run: lorita compare {shlex.quote(str(run))}")


def _show(found: Comparison, *, json: bool) -> None:
    if json:
        say_json(found.as_dict())
    else:
        print_comparison(found)
