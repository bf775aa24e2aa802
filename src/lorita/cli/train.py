"""``lorita train``: train a LoRA adapter."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from lorita.cli.options import with_run_options
from lorita.cli.positional import Targets, read_targets
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
    from lorita.settings.build import build_settings

    config = read_targets(targets, options)
    if config is not None and (options.get("resume") or "resume_from_checkpoint" in options):
        options.setdefault("output_dir", config.parent)
    settings = build_settings(config, **options)

    def events() -> Generator[Event, None, RunResult]:
        from lorita.workflows.train import train_events

        return train_events(settings, started=BEGAN)

    show_run(events, settings)
