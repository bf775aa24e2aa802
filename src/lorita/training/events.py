"""What happens during a run, as typed values that the caller shows or records."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar


@dataclass(frozen=True)
class Event:
    """Base class of all events."""

    def record(self) -> dict[str, Any]:
        """The event as one line of ``log.jsonl``: its class name and its fields."""
        values = {name: _plain(value) for name, value in asdict(self).items()}
        return {"event": type(self).__name__, **values}


def _plain(value: Any) -> Any:
    """``value`` as JSON can hold it: paths become strings, numbers that are not finite None."""
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Note(Event):
    """Something the user should know: a choice and its reason, a fallback, a warning."""

    text: str
    is_warning: bool = False


class Count:
    """How far a phase is. It grows while the phase lasts, for whoever draws it meanwhile."""

    done: float = 0.0


@dataclass(frozen=True)
class PhaseStarted(Event):
    """What is being done until the next event, such as "Loading" or "Writing tensors".

    ``total`` is how many ``unit`` there are (None: not known), ``count`` how many are done.
    """

    text: str
    total: int | None = None
    unit: str = ""
    count: Count = field(default_factory=Count, compare=False)

    def advance(self, by: float = 1.0) -> None:
        """Count ``by`` more as done; a part of one is possible."""
        self.count.done += by


@dataclass(frozen=True)
class TrainingStarted(Event):
    """Training is about to start. ``first_step`` is the number of steps already done."""

    first_step: int
    max_steps: int
    rows: int
    held_out_rows: int
    tokens_per_epoch: int


@dataclass(frozen=True)
class Forecasted(Event):
    """What the whole run is expected to take, from its first steps; None where it is not known.

    Bytes and seconds: ``before`` until training starts, ``after`` to measure the result.
    """

    peak_bytes: int
    free_bytes: int | None
    training: float | None
    before: float | None
    after: float | None


@dataclass(frozen=True)
class StepDone(Event):
    """An optimizer step was applied. ``loss`` is the mean over its target tokens, in nats."""

    step: int
    epoch: float
    loss: float
    grad_norm: float
    learning_rate: float
    tokens: int
    seconds: float


@dataclass(frozen=True)
class StepSkipped(Event):
    """A step was not applied: its loss or gradient is not finite. ``rows`` are numbered from 1."""

    step: int
    loss: float
    grad_norm: float
    rows: list[int]


@dataclass(frozen=True)
class EarlyStopped(Event):
    """Training stopped: the held-out loss (nats) did not improve for too many evaluations."""

    step: int
    best_step: int
    best_loss: float


@dataclass(frozen=True)
class TrainingShortened(Event):
    """To end in time, training has fewer steps than were ``planned``; it ends at ``max_steps``."""

    step: int
    max_steps: int
    planned: int


@dataclass(frozen=True)
class BestKept(Event):
    """The run has the adapter of this ``step``, whose held-out loss (nats) was the lowest."""

    step: int
    loss: float


@dataclass(frozen=True)
class MicroBatchReduced(Event):
    """A step did not fit into memory. It is computed again, at most ``tokens`` at once."""

    step: int
    tokens: int


@dataclass(frozen=True)
class Evaluated(Event):
    """The held-out rows were evaluated. ``loss`` is the mean over their target tokens, in nats."""

    step: int
    loss: float


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """The folder ``path`` holds a complete checkpoint."""

    step: int
    path: Path


@dataclass(frozen=True)
class TrainingEnded(Event):
    """The last step is done. ``seconds`` and ``tokens`` exclude what came before a resume."""

    steps: int
    seconds: float
    tokens: int


@dataclass(frozen=True)
class Compared(Event):
    """Base and tuned model were compared, and the comparison was saved at ``path``."""

    path: Path


@dataclass(frozen=True)
class RunEnded(Event):
    """The run folder ``path`` is complete."""

    path: Path
    adapter_bytes: int
    seconds: float


T = TypeVar("T")
OnEvent = Callable[[Event], None]


def unseen(event: Event) -> None:
    """Takes an event that nobody wants to see."""


def follow(events: Generator[Event, None, T], on_event: Callable[[Event], None]) -> T:
    """Pass every event to ``on_event`` and return the value that the generator returns."""
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            result: T = end.value
            return result
        on_event(event)
