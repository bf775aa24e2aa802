"""``lorita plan``: what a run would take, before it starts."""

from __future__ import annotations

from typing import Any

from lorita.cli.options import with_run_options
from lorita.cli.positional import Targets, read_targets


@with_run_options()
def command(*targets: Targets, **options: Any) -> None:
    """Show what a run would take: parameters, memory and time.

    Takes the arguments of train. Without --data, shows only parameters and sizes, for which the
    model's config.json is enough. With --data, also forecasts memory and time; for this a few
    steps are timed on its rows, unless --no-probe is given.
    """
    from lorita.settings.build import build_settings
    from lorita.workflows.plan import plan_run

    config = read_targets(targets, options)
    has_data = config is not None or "data" in options
    if not has_data:
        options["data"] = "(none)"
    print(plan_run(build_settings(config, **options), data=has_data))
