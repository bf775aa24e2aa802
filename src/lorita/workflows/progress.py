"""Progress for people: a bar in a terminal, lines in a file or pipe, one display in a notebook.

It consumes the events of a run and decides nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from lorita.data.origin import rows_text
from lorita.system.counted import counted
from lorita.system.durations import duration
from lorita.system.processes import is_lead
from lorita.system.terminal_text import can_draw, escaped_streams, shown
from lorita.training.events import (
    BestKept,
    CheckpointSaved,
    EarlyStopped,
    Evaluated,
    Event,
    MicroBatchReduced,
    Note,
    PhaseStarted,
    RunEnded,
    StepDone,
    StepSkipped,
    TrainingEnded,
    TrainingShortened,
    TrainingStarted,
)
from lorita.workflows.notebook import in_notebook, notebook_display
from lorita.workflows.rate import Rate

Show = Callable[[Event], None]


@contextmanager
def show_progress(logging_steps: int = 1, *, lines: bool = True) -> Iterator[Show]:
    """A function that shows events in the way that suits this process's output.

    Where there is no terminal it writes lines, or with ``lines=False`` nothing. It does not raise
    where that output fails: what nobody can read does not stop a run.
    """
    if not is_lead() or sys.stderr is None or sys.stderr.closed:
        yield lambda event: None
    elif in_notebook():
        with notebook_display(event_line) as show:
            yield _unfailing(show)
    elif sys.stderr.isatty() and can_draw():
        with _terminal() as show:
            yield _unfailing(show)
    elif lines or sys.stderr.isatty():
        yield _unfailing(_lines(logging_steps))
    else:
        yield lambda event: None


def _unfailing(show: Show) -> Show:
    def shown(event: Event) -> None:
        with suppress(OSError, UnicodeError):
            show(event)

    return shown


def event_line(event: Event) -> str | None:
    """An event as a line of text; None for events without one (steps: see ``step_line``)."""
    line = _line(event)
    return None if line is None else shown(line)


_SINGULAR = re.compile(r"s\b")
"""What a unit, such as "tokens at most", loses where there is one."""


def _line(event: Event) -> str | None:
    match event:
        case Note(text=text, is_warning=is_warning):
            return f"Warning: {text}" if is_warning else text
        case PhaseStarted(text=text, total=total, unit=unit):
            if not total:
                return f"{text} …"
            return f"{text}: {total:,} {unit if total > 1 else _SINGULAR.sub('', unit, count=1)}"
        case TrainingStarted():
            return (
                f"Training: {counted(event.max_steps, 'step')}, {counted(event.rows, 'row')}, "
                f"{counted(event.tokens_per_epoch, 'token')} per epoch"
            )
        case Evaluated():
            return f"step {event.step}: held-out loss {event.loss:.4f}"
        case StepSkipped():
            return (
                f"Warning: step {event.step} was skipped: loss {event.loss}, gradient norm "
                f"{event.grad_norm} ({rows_text(sorted(event.rows), most=16)})"
            )
        case EarlyStopped():
            return (
                f"Held-out loss stopped falling at step {event.best_step} "
                f"({event.best_loss:.4f}): training ends after step {event.step}"
            )
        case TrainingShortened():
            return (
                f"Warning: steps take longer than when they were timed: to end in time, training "
                f"has {event.max_steps} steps instead of {event.planned}. This run cannot be "
                "repeated exactly"
            )
        case BestKept():
            return f"Best held-out loss {event.loss:.4f} at step {event.step}: that adapter is kept"
        case MicroBatchReduced():
            return f"step {event.step}: out of memory; now at most {event.tokens} tokens at a time"
        case CheckpointSaved():
            return f"Checkpoint saved: {event.path}"
        case TrainingEnded():
            rate = event.tokens / max(event.seconds, 1e-9)
            return f"Trained in {duration(event.seconds)}, {rate:,.0f} tokens/s"
        case RunEnded():
            return f"Saved in {event.path} ({event.adapter_bytes / 1e6:.2f} MB of adapter)"
    return None


def _lines(logging_steps: int) -> Show:
    rate = Rate()

    def show(event: Event) -> None:
        nonlocal rate
        line = event_line(event)
        if isinstance(event, TrainingStarted):
            rate = Rate(event.max_steps, event.first_step)
        elif isinstance(event, TrainingShortened):
            rate.max_steps = event.max_steps
        elif isinstance(event, StepDone):
            described = rate.step_line(event)
            due = event.step % logging_steps == 0 or event.step == rate.max_steps
            line = described if due else None
        if line is not None:
            print(line, file=sys.stderr, flush=True)

    return show


@contextmanager
def _terminal() -> Iterator[Show]:
    from lorita.workflows.bar import drawn_bar
    from lorita.workflows.screen import print_text

    # While the bar is up, rich reads colours from what others print: they are escaped before it.
    with drawn_bar() as (bar, console), escaped_streams():

        def show(event: Event) -> None:
            bar.follow(event)
            line = event_line(event)
            if line is not None and not isinstance(event, PhaseStarted):
                style = "yellow" if isinstance(event, Note) and event.is_warning else "none"
                print_text(console, line, style)

        yield show
