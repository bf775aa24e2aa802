"""The line at the bottom of a terminal: what is being done, a bar, and how far it is.

It is shortened to fit the terminal, and the bar stays: what matters least is left out first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from lorita.system.durations import duration
from lorita.training.events import (
    Event,
    PhaseStarted,
    StepDone,
    TrainingEnded,
    TrainingShortened,
    TrainingStarted,
)
from lorita.workflows.rate import Rate
from lorita.workflows.screen import Screen, styled
from lorita.workflows.sparkline import sparkline

WIDEST, NARROWEST = 24, 6
"""Columns of the bar."""
MARGIN = 3
"""Columns left free: Ctrl-C writes ^C there, and a line that wraps cannot be wiped away again."""
SHOWN_AFTER = 1.0
"""Seconds after which a phase shows for how long it has lasted."""


class Bar:
    """What the events so far say is going on; draws itself as one line."""

    def __init__(self) -> None:
        self._rate: Rate | None = None
        self._step: StepDone | None = None
        self._losses: list[float] = []
        self._phase: PhaseStarted | None = None
        self._since = time.monotonic()

    def follow(self, event: Event) -> None:
        """Take the next event. A phase ends with it."""
        self._phase = event if isinstance(event, PhaseStarted) else None
        self._since = time.monotonic()
        if isinstance(event, TrainingStarted):
            self._rate, self._step = Rate(event.max_steps, event.first_step), None
            self._losses = []
        elif isinstance(event, StepDone) and self._rate is not None:
            self._step = event
            self._rate.count(event)
            if math.isfinite(event.loss):
                self._losses.append(event.loss)
        elif isinstance(event, TrainingShortened) and self._rate is not None:
            self._rate.max_steps = event.max_steps
        elif isinstance(event, TrainingEnded):
            self._rate = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width - MARGIN
        if self._phase is not None:
            yield from _line(width, *_of_phase(self._phase, self._since))
        elif self._rate is not None:
            curve = "" if options.ascii_only else sparkline(self._losses)
            yield from _line(width, *self._of_training(self._rate, curve))
        else:
            yield Text("")

    def _of_training(self, rate: Rate, curve: str) -> tuple[str, list[str], float | None, float]:
        if self._step is None:
            return "first step …", [], rate.max_steps, rate.first_step
        first, left, loss, *more = rate.parts(self._step)
        more = [left, loss, *([curve] if curve else []), *more]
        return first, more, rate.max_steps, self._step.step


def _line(
    width: int, before: str, after: Sequence[str], total: float | None, done: float
) -> Iterator[Text | ProgressBar]:
    """One line of at most ``width`` columns; of ``after``, the last parts are left out first."""
    kept = list(after)
    while kept and cell_len("  ".join([before, *kept])) + NARROWEST + 1 > width:
        kept.pop()
    behind = "".join(f"  {part}" for part in kept)
    label = Text(before)
    label.truncate(max(width - cell_len(behind) - NARROWEST - 1, 0), overflow="ellipsis")
    bar = min(WIDEST, max(0, width - label.cell_len - 1 - cell_len(behind)))
    yield _piece(f"{label.plain} ")
    if bar:
        yield ProgressBar(total, min(done, total or 0), width=bar, pulse=total is None)
    yield _piece(behind)


def _piece(text: str) -> Text:
    piece = styled(text)
    piece.end, piece.no_wrap = "", True
    return piece


def _of_phase(phase: PhaseStarted, since: float) -> tuple[str, list[str], float | None, float]:
    lasted, done = time.monotonic() - since, phase.count.done
    after = [f"{int(done + 1e-6):,}/{phase.total:,} {phase.unit}"] if phase.total else []
    if lasted >= SHOWN_AFTER:
        after.append(duration(round(lasted)) if lasted >= 10 else f"{lasted:.0f} s")
    return phase.text, after, phase.total or None, done


@contextmanager
def drawn_bar() -> Iterator[tuple[Bar, Console]]:
    """A bar at the bottom of the terminal while the block runs, and the console to print above."""
    bar, console = Bar(), Screen(stderr=True)
    with Live(bar, console=console, transient=True, refresh_per_second=8):
        yield bar, console
