"""What a terminal shows while a command other than a run works: what is being done, and how far."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorita.training.events import OnEvent

BEGAN = time.perf_counter()
"""When this process began its command, or nearly."""
LIBRARIES = "Loading libraries"


@contextmanager
def waiting(first: str = LIBRARIES) -> Iterator[OnEvent]:
    """A bar while the block runs, and what tells it the events. Without a terminal, nothing.

    ``first`` is what is done until the first event; importing libraries takes seconds.
    """
    from lorita.system.imports import importing
    from lorita.training.events import Event, PhaseStarted
    from lorita.workflows.progress import show_progress

    with show_progress(lines=False) as show, importing() as imported:
        show(PhaseStarted(first))

        def show_next(event: Event) -> None:
            imported()
            show(event)

        yield show_next
