"""A training run on the screen: progress while it runs, then before and after."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from lorita.cli.render import print_comparison, print_result

if TYPE_CHECKING:
    from lorita.settings.schema import RunSettings
    from lorita.training.events import Event
    from lorita.workflows.train import RunResult


def show_run(events: Generator[Event, None, RunResult], settings: RunSettings) -> None:
    """Follow a run to its end with progress on stderr; print its result on stdout.

    ``Interrupted`` if it is stopped, with the command that continues it.
    """
    from lorita.system.processes import is_lead
    from lorita.training.events import follow
    from lorita.workflows.interruption import run_interruption
    from lorita.workflows.progress import show_progress

    with run_interruption(settings), show_progress(settings.logging_steps) as show:
        result = follow(events, show)
    if is_lead():
        print_comparison(result.comparison)
        print_result(result.path)
