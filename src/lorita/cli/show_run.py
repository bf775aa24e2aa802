"""A training run on the screen: progress while it runs, then before and after."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from lorita.cli.render import print_comparison, print_result
from lorita.cli.waiting import LIBRARIES

if TYPE_CHECKING:
    from lorita.settings.schema import RunSettings
    from lorita.training.events import Event
    from lorita.workflows.train import RunResult

    Events = Callable[[], Generator[Event, None, RunResult]]


def show_run(events: Events, settings: RunSettings) -> None:
    """Follow a run to its end with progress on stderr; print its result on stdout.

    ``events`` starts it, and imports what it needs only then: that takes seconds, which are shown.
    ``Interrupted`` if it is stopped, with the command that continues it.
    """
    from lorita.system.imports import importing
    from lorita.system.processes import is_lead
    from lorita.training.events import PhaseStarted, follow
    from lorita.workflows.progress import show_progress

    with show_progress(settings.logging_steps) as show:
        show(PhaseStarted(LIBRARIES))
        from lorita.workflows.interruption import run_interruption

        with run_interruption(settings):
            with importing():
                begun = events()
            result = follow(begun, show)
    if is_lead():
        print_comparison(result.comparison)
        print_result(result.path)
