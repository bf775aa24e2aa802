"""What ``log.jsonl`` tells about a training: its steps, evaluations, forecast and time.

The log is a file like any other: values of the wrong kind are taken for missing ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorita.storage.run_log import read_log

Event = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One step that was applied; a figure is None where the log has no finite number."""

    number: int
    loss: float | None
    grad_norm: float | None
    learning_rate: float | None
    tokens: float
    seconds: float


@dataclass(frozen=True)
class Expected:
    """What the first steps let expect, in bytes and seconds; None where it is not known."""

    peak_memory: float | None
    training: float | None
    whole: float | None


@dataclass(frozen=True)
class TrainingLog:
    """A training as its log tells it. ``held_out`` is (step, loss in nats per token).

    ``seconds`` of training include those before a resume, and evaluations since.
    """

    steps: tuple[Step, ...] = ()
    held_out: tuple[tuple[int, float], ...] = ()
    skipped: tuple[int, ...] = ()
    max_steps: int | None = None
    resumed: bool = False
    ended: bool = False
    seconds: float = 0.0
    stopped_early: bool = False
    expected: Expected | None = None
    warnings: tuple[str, ...] = ()

    @property
    def tokens_per_second(self) -> float | None:
        """Over all steps, without what lies between them; None if there were none."""
        seconds = sum(step.seconds for step in self.steps)
        return sum(step.tokens for step in self.steps) / seconds if seconds > 0 else None

    def curve(self, figure: str) -> list[tuple[float, float]]:
        """A figure of the steps as points (step, value), without steps that lack it."""
        found = ((step.number, getattr(step, figure)) for step in self.steps)
        return [(float(number), value) for number, value in found if value is not None]


def read_training(folder: Path) -> TrainingLog:
    """The training that the log in a run's folder tells of; empty if there is no log."""
    events = read_log(folder)
    by_kind: dict[str, list[Event]] = {}
    for event in events:
        by_kind.setdefault(event["event"], []).append(event)
    steps = tuple(_step(event) for event in by_kind.get("StepDone", []))
    evaluated = [(_whole(e), _number(e, "loss")) for e in by_kind.get("Evaluated", [])]
    starts, ends = by_kind.get("TrainingStarted", []), by_kind.get("TrainingEnded", [])
    last = _number(starts[-1], "max_steps") if starts else None
    in_steps = sum(step.seconds for step in steps)
    return TrainingLog(
        steps=steps,
        held_out=tuple((step, loss) for step, loss in evaluated if loss is not None),
        skipped=tuple(_whole(event) for event in by_kind.get("StepSkipped", [])),
        max_steps=None if last is None else int(last),
        resumed=any(_number(start, "first_step") for start in starts),
        ended=bool(ends),
        seconds=max(in_steps, (_number(ends[-1], "seconds") if ends else None) or 0.0),
        stopped_early="EarlyStopped" in by_kind,
        expected=_expected(by_kind.get("Forecasted", [])),
        warnings=_warnings(by_kind.get("Note", [])),
    )


def _step(event: Event) -> Step:
    return Step(
        _whole(event),
        _number(event, "loss"),
        _number(event, "grad_norm"),
        _number(event, "learning_rate"),
        _number(event, "tokens") or 0.0,
        max(_number(event, "seconds") or 0.0, 0.0),
    )


def _expected(events: list[Event]) -> Expected | None:
    if not events:
        return None
    parts = [_number(events[-1], name) for name in ("before", "training", "after")]
    known = [part for part in parts if part is not None]
    return Expected(
        peak_memory=_number(events[-1], "peak_bytes"),
        training=parts[1],
        whole=sum(known) if len(known) == len(parts) else None,
    )


def _warnings(notes: list[Event]) -> tuple[str, ...]:
    texts = (note.get("text") for note in notes if note.get("is_warning") is True)
    return tuple(dict.fromkeys(text for text in texts if isinstance(text, str)))


def _whole(event: Event) -> int:
    step = _number(event, "step")
    return 0 if step is None else int(step)


def _number(event: Event, key: str) -> float | None:
    """A finite number of the event; None if it has none."""
    value = event.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond all floating-point numbers
        return None
