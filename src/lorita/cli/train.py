"""``lorita train``: train a LoRA adapter."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from lorita.cli.options import settings_file, with_run_options
from lorita.cli.render import print_result
from lorita.cli.show_run import show_run


@with_run_options()
def command(
    target: Annotated[
        str | None, Parameter(help="Settings file (run.yaml) or run folder; flags override it.")
    ] = None,
    /,
    **options: Any,
) -> None:
    """Train a LoRA adapter.

    At the end the base and the tuned model answer the same prompts, and the answers are saved
    beside the adapter.
    """
    from lorita.runs.output_folder import default_output_dir, finished, unheeded
    from lorita.settings.build import build_settings
    from lorita.workflows.train import train_events

    config = settings_file(target)
    if config is not None and (options.get("resume") or "resume_from_checkpoint" in options):
        options.setdefault("output_dir", config.parent)
    settings = build_settings(config, **options)
    folder = default_output_dir(settings)
    if finished(settings, folder):
        print(f"{folder}: this run is finished, so there is nothing to continue.")
        if ignored := unheeded(settings, folder):
            print(f"No longer of use to it: {', '.join(ignored)}.", end=" ")
            print("See lorita evaluate, lorita compare and lorita push.")
        print_result(folder)
        return
    show_run(train_events(settings), settings)
