"""How lorita trains.

Each step takes its rows in the order that the seed gives, computes their gradients in as many
pieces as memory asks for, clips and applies them, and says what happened. The result depends on
the rows and the seed, not on the pieces, and not on how often it is logged, saved or measured.

With several processes each computes a share of every step's rows; the gradients are added up.

This file shows nothing and reads no settings: it yields events. One step is in ``step.py``, the
opinion about its loss in ``watch.py``, and what stands on disk in ``checkpoint.py``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lorita.data.batches import iterate_steps, steps_per_epoch
from lorita.errors import Interrupted
from lorita.training.events import (
    CheckpointSaved,
    EarlyStopped,
    Evaluated,
    Event,
    StepDone,
    StepSkipped,
    TrainingEnded,
)
from lorita.training.loss_watch import Watch
from lorita.training.step import apply, clip, fitting_gradients, pass_over
from lorita.training.stop_request import StopRequest

if TYPE_CHECKING:
    from pathlib import Path

    from accelerate import Accelerator

    from lorita.data.examples import Example
    from lorita.training.objective import LossSum
    from lorita.training.step import Trainee


@dataclass(frozen=True)
class Pace:
    """How long, in which portions, and what happens every so many steps (None: never).

    With ``windows``, places of rows that are taken together, a step has so many of these.
    """

    max_steps: int
    rows_per_step: int
    token_budget: int
    max_grad_norm: float = 1.0
    eval_steps: int | None = None
    save_steps: int | None = None
    seed: int = 42
    windows: Sequence[Sequence[int]] | None = None


@dataclass
class Hooks:
    """What the loop cannot know: how to evaluate, how to save, and when somebody wants to stop."""

    evaluate: Callable[[], float] | None = None
    save: Callable[[int], Path] | None = None
    stop: StopRequest = field(default_factory=StopRequest)


def train(
    trainee: Trainee,
    examples: Sequence[Example],
    loss_sum: LossSum,
    pace: Pace,
    *,
    accelerator: Accelerator,
    hooks: Hooks | None = None,
    watch: Watch | None = None,
    first_step: int = 0,
) -> Iterator[Event]:
    """Train from ``first_step`` to ``pace.max_steps``, or until ``watch`` loses its patience.

    Raises ``RunFailed`` when the run diverges or one row alone does not fit into memory, and
    ``Interrupted`` after a checkpoint when a stop was requested.
    """
    hooks, watch = hooks or Hooks(), watch or Watch()
    per_epoch = steps_per_epoch(len(pace.windows or examples), pace.rows_per_step)
    steps = iterate_steps(
        examples,
        rows_per_step=pace.rows_per_step,
        seed=pace.seed,
        first_step=first_step,
        windows=pace.windows,
    )
    trainee.token_budget = trainee.token_budget or pace.token_budget
    started, all_tokens, done = time.perf_counter(), 0, first_step
    trainee.model.train()
    for step in range(first_step + 1, pace.max_steps + 1):
        if watch.out_of_patience:
            yield EarlyStopped(done, *watch.best)
            break
        step_started = time.perf_counter()
        rows = next(steps)
        loss = yield from fitting_gradients(step, trainee, rows, loss_sum, accelerator, hooks.stop)
        if loss is None:
            yield from _save(hooks, done)
            raise Interrupted(f"interrupted after step {done} of {pace.max_steps}")
        rate = trainee.schedule.get_last_lr()[0]
        grad_norm = clip(trainee, pace.max_grad_norm, accelerator)
        if math.isfinite(loss) and math.isfinite(grad_norm):
            remarks = watch.step(step, loss, rate, rows, trainee)
            apply(trainee)
            tokens = sum(len(row.input_ids) for row in rows)
            all_tokens += tokens
            seconds = time.perf_counter() - step_started
            yield StepDone(step, step / per_epoch, loss, grad_norm, rate, tokens, seconds)
            yield from remarks
        else:
            pass_over(trainee)
            yield StepSkipped(step, loss, grad_norm, [row.row + 1 for row in rows])
            watch.skipped(step, loss, grad_norm, rate, rows)
        done = step
        if _evaluation_due(step, pace, watch) and hooks.evaluate:
            held_out_loss = hooks.evaluate()
            trainee.model.train()
            yield Evaluated(step, held_out_loss)
            yield from watch.evaluated(step, held_out_loss)
        stopping = hooks.stop.requested and step < pace.max_steps
        is_best = watch.keep_best and watch.best[0] == step
        if stopping or is_best or _due(step, pace.save_steps):
            yield from _save(hooks, step)
        if stopping:
            raise Interrupted(f"interrupted after step {step} of {pace.max_steps}")
    trainee.model.eval()
    yield TrainingEnded(done, time.perf_counter() - started, all_tokens)


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _evaluation_due(step: int, pace: Pace, watch: Watch) -> bool:
    """The last step is measured after training anyway, unless the best is chosen from these."""
    return watch.keep_best if step == pace.max_steps else _due(step, pace.eval_steps)


def _save(hooks: Hooks, step: int) -> Iterator[Event]:
    if hooks.save is not None:
        yield CheckpointSaved(step, hooks.save(step))
