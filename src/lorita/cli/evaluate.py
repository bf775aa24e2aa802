"""``lorita evaluate``: what a run learned, forgot and memorised."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lorita.cli.options import (
    ENGINE_HELP,
    BasePlace,
    Dtype,
    Engine,
    Json,
    TrustCode,
)
from lorita.cli.render import console, plain_table
from lorita.cli.say import say, say_json, tell
from lorita.cli.unused import say_unused
from lorita.cli.waiting import waiting


def command(
    run: Annotated[Path, Parameter(help="Run folder.")],
    /,
    *,
    data: Annotated[
        list[str] | None,
        Parameter(
            help="Rows to measure learning on, read in the same way as the run's own. Repeatable. "
            "Default: the rows that the run held out.",
            negative=(),
            metavar="STR",
        ),
    ] = None,
    max_samples: Annotated[
        int | None, Parameter(help="Use at most N rows. Default: as in the run.")
    ] = None,
    lm_eval: Annotated[
        str | None,
        Parameter(help="Run these lm-eval tasks with the tuned model instead.", metavar="TASK,..."),
    ] = None,
    dtype: Dtype = "auto",
    engine: Annotated[
        Engine, Parameter(help=f"{ENGINE_HELP} Losses always come from transformers.")
    ] = "transformers",
    base: BasePlace = None,
    trust_remote_code: TrustCode = False,
    map_row: Annotated[
        str | None,
        Parameter(help="The run's own map_row, to allow its code if it comes from elsewhere."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure what a run learned, forgot and memorised.

    Prints a sentence on each. Needs the run folder, its base model and its data.
    """
    from lorita.errors import SettingsError

    where: Any = {"base": base, "dtype": dtype, "trust_remote_code": trust_remote_code}
    if max_samples is not None and max_samples < 1:
        raise SettingsError(f"max_samples = {max_samples}: should be 1 or more")
    if lm_eval is not None:
        say_unused(
            "with --lm-eval, which brings its own rows",
            data=(data or None, None), max_samples=(max_samples, None),
            engine=(engine, "transformers"), map_row=(map_row, None),
        )  # fmt: skip
        _print_lm_eval(run, lm_eval, where, json=json)
        return
    where["map_row"] = map_row
    where |= {"data": data or (), "max_samples": max_samples, "engine": engine}
    with waiting() as show:
        from lorita.workflows.evaluate import evaluate

        found = evaluate(run, on_event=show, **where)
    for note in found.notes:
        tell(note)
    say_json(found.proof.as_dict()) if json else say(found.proof)


def _print_lm_eval(run: Path, tasks: str, where: Any, *, json: bool) -> None:
    from lorita.workflows.evaluate import run_lm_eval

    results = run_lm_eval(run, [task.strip() for task in tasks.split(",") if task.strip()], **where)
    if json:
        say_json(results)
        return
    rows = [
        (task, metric.removesuffix(",none"), f"{value:.4f}")
        for task, metrics in results.items()
        for metric, value in metrics.items()
        if isinstance(value, float)
    ]
    console().print(plain_table(("task", "metric", "value"), rows))
