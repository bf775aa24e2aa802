"""``lorita plan``: what a run would take, before it starts."""

from __future__ import annotations

from typing import Any

from lorita.cli.options import Json, with_run_options
from lorita.cli.positional import Targets, read_targets
from lorita.cli.say import say, say_json
from lorita.cli.unused import say_unused
from lorita.cli.waiting import BEGAN, waiting
from lorita.settings.facts import options_where


@with_run_options()
def command(*targets: Targets, json: Json = False, **options: Any) -> None:
    """Show what a run would take: parameters, memory and time.

    Takes the arguments of train. Without --data, shows only parameters and sizes, for which the
    model's config.json is enough. With --data, also forecasts memory and time; for this a few
    steps are timed on its rows, unless --no-probe is given.
    """
    from lorita.settings.build import build_settings

    config = read_targets(targets, options)
    has_data = config is not None or "data" in options
    if not has_data:
        counted = {*options_where(group="LoRA"), *options_where(group="Base model")}
        counted |= {"add_tokens", "add_special_tokens"}  # trained, and known without rows
        say_unused("without --data", *(name for name in options if name not in counted))
        options["data"] = "(none)"
    settings = build_settings(config, **options)
    with waiting() as show:
        from lorita.workflows.plan import plan_run

        plan = plan_run(settings, data=has_data, on_event=show, started=BEGAN)
    if json:
        say_json(plan.as_dict())
    else:
        say(plan)
