"""``lorita sweep``: several runs on one base, and which of them is best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from lorita.cli.options import Json, with_run_options
from lorita.cli.positional import Targets, read_targets
from lorita.cli.render import console, plain_table
from lorita.cli.say import say, say_json
from lorita.cli.unused import say_unused
from lorita.cli.waiting import LIBRARIES
from lorita.settings.facts import options_where

if TYPE_CHECKING:
    from lorita.settings.schema import RunSettings
    from lorita.workflows.find_learning_rate import RateTest
    from lorita.workflows.sweep_grid import Point
    from lorita.workflows.sweep_result import SweepResult


_OF_RUNS = {
    *options_where(group="Reports"), "learning_rate", "lr_scheduler_type", "warmup_steps",
    "num_train_epochs", "max_steps", "time_budget", "early_stopping_patience",
    "load_best_model_at_end", "max_skipped_steps", "eval_data", "max_eval_samples",
} - {"output_dir", "overwrite"}  # fmt: skip
"""Options of runs, of which the learning-rate test makes none."""


@with_run_options(without=("resume", "resume_from_checkpoint"), lists=True)
def command(
    *targets: Targets,
    find_lr: Annotated[
        bool,
        Parameter(
            help="Instead of training runs, raise the learning rate step by step and suggest one.",
            negative=(),
        ),
    ] = False,
    json: Json = False,
    **options: Any,
) -> None:
    """Train with several settings and find the best.

    LoRA and training options take several values, separated by commas: --learning-rate 1e-4,1e-3
    --r 4,16. Values that contain commas are separated by semicolons: --target-modules
    "q_proj,v_proj;all-linear".

    Every combination is trained on the same base, and the best is the one with the lowest loss on
    the held-out rows. Each run gets a folder in --output-dir. To continue a sweep that was
    stopped, repeat the command.
    """
    from lorita.errors import SettingsError
    from lorita.settings.build import build_settings
    from lorita.workflows.sweep_grid import make_grid, split_values

    config = read_targets(targets, options)
    grid, others = split_values(options)
    if find_lr:
        if grid:
            raise SettingsError("--find-lr makes no runs, so give each option one value")
        say_unused("with --find-lr", *(name for name in others if name in _OF_RUNS))
        test = _follow_rate_test(build_settings(config, **others), others)
        say_json(test.as_dict()) if json else print_rate_test(test)
        return
    if not grid:
        raise SettingsError(
            "there is nothing to sweep over", hint="Give several values: --learning-rate 1e-4,1e-3"
        )
    result = _follow_sweep(make_grid(grid, config, **others), others)
    say_json(result.as_dict()) if json else print_sweep(result)


def _follow_sweep(points: Sequence[Point], options: Mapping[str, Any]) -> SweepResult:
    from lorita.training.events import PhaseStarted, follow
    from lorita.workflows.progress import show_progress

    first = points[0].settings
    with show_progress(first.logging_steps) as show:
        show(PhaseStarted(LIBRARIES))
        from lorita.workflows.interruption import sweep_interruption
        from lorita.workflows.sweep import sweep_dir, sweep_events

        with sweep_interruption(overwrite=first.overwrite):
            folder = sweep_dir(first, options.get("output_dir"))
            return follow(sweep_events(points, folder), show)


def _follow_rate_test(settings: RunSettings, options: Mapping[str, Any]) -> RateTest:
    from lorita.training.events import PhaseStarted, follow
    from lorita.workflows.progress import show_progress

    with show_progress(logging_steps=8) as show:
        show(PhaseStarted(LIBRARIES))
        from lorita.workflows.find_learning_rate import rate_test_events
        from lorita.workflows.sweep import sweep_dir

        folder = sweep_dir(settings, options.get("output_dir"))
        return follow(rate_test_events(settings, folder), show)


def print_sweep(result: SweepResult) -> None:
    """A line for each run, the best one marked, and where it is."""
    best = result.best
    names = list(result.runs[0].values)
    rows = [
        [
            *(_shown(run.values[name]) for name in names),
            _figure(run.held_out),
            _figure(run.training),
            "" if run.seconds is None else f"{run.seconds:.0f}",
            "best" if run is best else run.failed or "",
        ]
        for run in result.runs
    ]
    headings = (*names, "held-out loss", "training loss", "seconds", "")
    console().print(plain_table(headings, rows))
    if result.held_out_base is not None:
        say(f"Held-out loss of the base: {result.held_out_base:.4f} nats per token")
    for line in result.edges():
        say(line)
    if best is None:
        say("No run finished.")
    else:
        say(f"Best: {result.path / best.name}")


def print_rate_test(test: RateTest) -> None:
    """The rates that were tried, what they gained, and the suggested one."""
    shown = [*test.steps[3::4]]
    rows = [[f"{step.rate:.1e}", f"{step.gain:.3f}"] for step in shown]
    console().print(plain_table(("learning rate", "gain over the base, nats per token"), rows))
    say(test.sentence())


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
