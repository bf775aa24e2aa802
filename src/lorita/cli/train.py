"""``lorita train``: train a LoRA adapter."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from lorita.cli.options import with_run_options
from lorita.cli.positional import Targets, read_targets
from lorita.cli.render import print_result
from lorita.cli.say import say
from lorita.cli.show_run import show_run
from lorita.cli.waiting import BEGAN

if TYPE_CHECKING:
    from lorita.training.events import Event
    from lorita.workflows.train import RunResult


@with_run_options()
def command(*targets: Targets, **options: Any) -> None:
    """Train a LoRA adapter.

    At the end the base and the tuned model answer the same prompts, and the answers are saved
    beside the adapter.
    """
    from lorita.runs.output_folder import default_output_dir, finished, unheeded
    from lorita.runs.report.write import complete_report
    from lorita.settings.build import build_settings

    config = read_targets(targets, options)
    if config is not None and (options.get("resume") or "resume_from_checkpoint" in options):
        options.setdefault("output_dir", config.parent)
    settings = build_settings(config, **options)
    folder = default_output_dir(settings)
    if finished(settings, folder):
        from lorita.workflows.progress import event_line

        for event in complete_report(folder):
            say(event_line(event) or "")
        say(f"{folder}: this run is finished, so there is nothing to continue.")
        if ignored := unheeded(settings, folder):
            say(
                f"No longer of use to it: {', '.join(ignored)}. See lorita evaluate, lorita "
                "compare and lorita push."
            )
        print_result(folder)
        return

    def events() -> Generator[Event, None, RunResult]:
        from lorita.workflows.train import train_events

        return train_events(settings, started=BEGAN)

    show_run(events, settings)
