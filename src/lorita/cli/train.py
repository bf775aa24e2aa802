"""``lorita train``: train a LoRA adapter on a list of texts."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from lorita.cli.options import settings_file, with_run_options
from lorita.cli.render import print_comparison, print_result


@with_run_options()
def command(
    target: Annotated[
        str | None, Parameter(help="A settings file (run.yaml) or a run folder; flags win over it.")
    ] = None,
    /,
    **options: Any,
) -> None:
    """Train a LoRA adapter on a list of texts.

    Ends with the same prompts answered before and after, saved beside the adapter.
    """
    from lorita.settings.build import build_settings

    config = settings_file(target)
    if config is not None and (options.get("resume") or "resume_from_checkpoint" in options):
        options.setdefault("output_dir", config.parent)
    run_and_print(build_settings(config, **options))


def run_and_print(settings: Any) -> None:
    """Train with progress on stderr, then print before and after on stdout."""
    from lorita.system.processes import is_lead
    from lorita.training.events import follow
    from lorita.workflows.progress import show_progress
    from lorita.workflows.train import train_events

    with show_progress(settings.logging_steps) as show:
        result = follow(train_events(settings), show)
    if is_lead():
        print_comparison(result.comparison)
        print_result(result.path)
