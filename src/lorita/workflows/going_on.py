"""What the events so far say is going on: what is being done, and how far it is.

The bar of a terminal and the display of a notebook draw it, each in its own way.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

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
from lorita.workflows.sparkline import sparkline

SHOWN_AFTER = 1.0
"""Seconds after which a phase shows for how long it has lasted."""


@dataclass(frozen=True)
class Doing:
    """What is being done, details with what matters most first, and how much of it is done.

    ``total`` is None where nobody knows it.
    """

    what: str
    details: list[str]
    total: float | None
    done: float


class GoingOn:
    """Takes the events of a run in turn and knows what is being done."""

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

    def now(self, *, curve: bool = True) -> Doing | None:
        """What is being done now; None for nothing in particular. ``curve``: with the losses'."""
        if self._phase is not None:
            return _of_phase(self._phase, self._since)
        if self._rate is None:
            return None
        if self._step is None:
            return Doing("first step …", [], self._rate.max_steps, self._rate.first_step)
        first, left, loss, *more = self._rate.parts(self._step)
        drawn = sparkline(self._losses) if curve else ""
        details = [left, loss, *([drawn] if drawn else []), *more]
        return Doing(first, details, self._rate.max_steps, self._step.step)


def _of_phase(phase: PhaseStarted, since: float) -> Doing:
    lasted, done = time.monotonic() - since, phase.count.done
    details = [f"{int(done + 1e-6):,}/{phase.total:,} {phase.unit}"] if phase.total else []
    if lasted >= SHOWN_AFTER:
        details.append(duration(round(lasted)) if lasted >= 10 else f"{lasted:.0f} s")
    return Doing(phase.text, details, phase.total or None, done)
