"""``lorita plan``: what a run would take, before it starts."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from lorita.cli.options import is_settings, settings_file, with_run_options
from lorita.cli.unused import say_unused
from lorita.settings.facts import options_where


@with_run_options()
def command(
    target: Annotated[
        str | None, Parameter(help="Model, settings file (run.yaml) or run folder.")
    ] = None,
    /,
    **options: Any,
) -> None:
    """Show what a run would take: parameters, memory and time.

    Takes the arguments of train. Without --data, shows only parameters and sizes, for which the
    model's config.json is enough. With --data, also forecasts memory and time; for this a few
    steps are timed on its rows, unless --no-probe is given.
    """
    from lorita.settings.build import build_settings
    from lorita.workflows.plan import plan_run

    config = None
    if target is not None and "model" not in options and not is_settings(target):
        options["model"] = target
    else:
        config = settings_file(target)
    has_data = config is not None or "data" in options
    if not has_data:
        counted = {*options_where(group="LoRA"), *options_where(group="Base model")}
        say_unused("without --data", *(name for name in options if name not in counted))
        options["data"] = "(none)"
    print(plan_run(build_settings(config, **options), data=has_data))
