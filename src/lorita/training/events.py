"""What happens in a run, as typed values; whoever shows or records progress consumes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar


@dataclass(frozen=True)
class Event:
    """Base of all events."""

    def record(self) -> dict[str, Any]:
        """The event as one line of ``log.jsonl``."""
        values = {name: _plain(value) for name, value in asdict(self).items()}
        return {"event": type(self).__name__, **values}


def _plain(value: Any) -> Any:
    """What JSON can hold: it knows no paths and no numbers that are not finite."""
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Note(Event):
    """Something the user should know: a choice and its reason, a fallback, a warning."""

    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class TrainingStarted(Event):
    """The first step comes next."""

    first_step: int
    max_steps: int
    rows: int
    held_out_rows: int
    tokens_per_epoch: int


@dataclass(frozen=True)
class StepDone(Event):
    """One optimizer step. ``loss`` is the mean over the step's target tokens, in nats."""

    step: int
    epoch: float
    loss: float
    grad_norm: float
    learning_rate: float
    tokens: int
    seconds: float


@dataclass(frozen=True)
class StepSkipped(Event):
    """A step whose loss or gradient is not finite was not applied. ``rows`` count from 1."""

    step: int
    loss: float
    grad_norm: float
    rows: list[int]


@dataclass(frozen=True)
class EarlyStopped(Event):
    """Held-out loss (nats) has not become better for as many evaluations as were allowed."""

    step: int
    best_step: int
    best_loss: float


@dataclass(frozen=True)
class MicroBatchReduced(Event):
    """A step did not fit into memory; it is computed again in smaller pieces."""

    step: int
    tokens: int


@dataclass(frozen=True)
class Evaluated(Event):
    """Mean loss over all target tokens of the held-out rows, in nats."""

    step: int
    loss: float


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A complete checkpoint lies at ``path``."""

    step: int
    path: Path


@dataclass(frozen=True)
class TrainingEnded(Event):
    """The last step is done."""

    steps: int
    seconds: float
    tokens: int


@dataclass(frozen=True)
class Compared(Event):
    """Before and after were generated and saved."""

    path: Path


@dataclass(frozen=True)
class RunEnded(Event):
    """The run folder is complete."""

    path: Path
    adapter_bytes: int
    seconds: float


T = TypeVar("T")


def follow(events: Generator[Event, None, T], on_event: Callable[[Event], None]) -> T:
    """Hand every event on and return what the generator returns."""
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            result: T = end.value
            return result
        on_event(event)
