"""``lorita plan``: what a run would train, before anything is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lorita.cli.options import settings_file, with_run_options


@with_run_options()
def command(
    target: Annotated[
        str | None, Parameter(help="A model, a settings file (run.yaml) or a run folder.")
    ] = None,
    /,
    **options: Any,
) -> None:
    """Count parameters and sizes, and forecast memory and time, before anything is spent.

    Takes the arguments of train. Without --data the model's config.json is enough: nothing but
    parameters and sizes is said. With it, a few steps are timed on its rows, unless --no-probe.
    """
    from lorita.settings.build import build_settings
    from lorita.workflows.plan import plan_run

    config = None
    if target is not None and "model" not in options and not _is_settings(target):
        options["model"] = target
    else:
        config = settings_file(target)
    has_data = config is not None or "data" in options
    if not has_data:
        options["data"] = "(none)"
    print(plan_run(build_settings(config, **options), data=has_data))


def _is_settings(target: str) -> bool:
    path = Path(target).expanduser()
    return path.suffix.lower() in (".yaml", ".yml") or (path / "run.yaml").is_file()
