"""Ends a training in time although its steps take longer than they did when they were timed.

Ten times during a run its steps are timed again. If the rest would take too long, there are fewer
of them, and the rest of the learning-rate schedule is run through faster: it ends where it would
have ended. What was decided is part of a checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from lorita.training.events import TrainingShortened

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch.optim.lr_scheduler import LRScheduler

    from lorita.training.events import Event
    from lorita.training.loop import Pace
    from lorita.training.step import Trainee

LOOKS = 10


@dataclass
class Deadline:
    """``at`` is when training should be over (``time.perf_counter``).

    If it would be over at most ``tolerance`` seconds later, nothing is changed.
    """

    at: float
    tolerance: float = 0.0
    _step: int = 0
    _time: float | None = None

    def look(
        self, step: int, pace: Pace, trainee: Trainee, accelerator: Accelerator
    ) -> Generator[Event, None, Pace]:
        """After ``step``: the pace that keeps to the deadline, with fewer steps if need be."""
        every = max(1, pace.max_steps // LOOKS)
        if step == pace.max_steps or (self._time is not None and step - self._step < every):
            return pace
        now = time.perf_counter()
        then, self._time = self._time, now
        before, self._step = self._step, step
        if then is None:
            return pace
        per_step = (now - then) / (step - before)
        left = pace.max_steps - step
        in_time = now + left * per_step <= self.at + self.tolerance
        fitting = left if in_time else max(1, min(left, int((self.at - now) / per_step)))
        fitting = _of_the_first(fitting, accelerator)
        if fitting == left:
            return pace
        last = step + fitting
        yield TrainingShortened(step, last, pace.max_steps)
        shorten(trainee, step, pace.max_steps, last)
        return replace(pace, max_steps=last)


def shorten(trainee: Trainee, after: int, planned: int, last: int) -> None:
    """Let the schedule after the step ``after`` end at ``last`` instead of at ``planned``."""
    trainee.shortened.append((after, planned, last))
    schedule: LRScheduler = trainee.schedule
    stretch = (planned - after) / (last - after)
    schedule.lr_lambdas = [  # type: ignore[attr-defined]
        partial(_faster, rule, after, stretch)
        for rule in schedule.lr_lambdas  # type: ignore[attr-defined]
    ]


def _faster(rule: Callable[[float], float], after: int, stretch: float, step: int) -> float:
    return rule(step if step <= after else after + (step - after) * stretch)


def _of_the_first(number: int, accelerator: Accelerator) -> int:
    """The number of the first process, in every process."""
    if accelerator.num_processes == 1:
        return number
    import torch

    mine = number if accelerator.process_index == 0 else 0
    return int(accelerator.reduce(torch.tensor(float(mine), device=accelerator.device), "sum"))
