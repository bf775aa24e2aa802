"""How lorita trains: one loop, for CPU, GPU and several processes.

Training is a sequence of steps. Each step

1. takes its rows, in an order that depends only on the seed;
2. computes their gradients, in as many micro-batches as memory requires;
3. clips the gradients and updates the trainable parameters, or skips the update if the loss or the
   gradient is not finite;
4. evaluates the held-out rows and saves a checkpoint, if either is due.

The rows and the seed determine the result. How a step is split into micro-batches changes nothing
but rounding; how often the run is logged, evaluated, saved or resumed changes nothing at all. With
several processes, each one computes a share of every step's rows, and the gradients are summed.

The loop reads no settings and prints nothing. It yields events (``events.py``), which the caller
shows or records. ``step.py`` computes gradients and updates, ``loss_watch.py`` judges each loss,
and ``checkpoint.py`` writes checkpoints.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lorita.data.batches import iterate_steps, steps_per_epoch
from lorita.errors import Interrupted
from lorita.training.deadline import Deadline
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
    """How long training runs, how large its steps are, and what happens every so many steps.

    A step takes ``rows_per_step`` rows, or as many ``windows`` where rows are packed: each window
    lists the rows, by their index, that are always trained together. ``token_budget`` is the size
    of the largest micro-batch, in tokens. A ``max_grad_norm`` of 0 turns clipping off.
    ``eval_steps`` and ``save_steps`` are None for never.
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
    """What the loop needs from its caller.

    ``evaluate`` yields what it is doing and returns the mean held-out loss in nats per token, or
    None if it was given up because a stop is requested. ``save`` writes the checkpoint of a step
    and returns its folder. ``stop`` tells the loop that somebody wants to stop, ``deadline`` when
    training has to be over.
    """

    evaluate: Callable[[], Generator[Event, None, float | None]] | None = None
    save: Callable[[int], Path] | None = None
    stop: StopRequest = field(default_factory=StopRequest)
    deadline: Deadline | None = None


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
    """Train up to ``pace.max_steps``, to a deadline, or until ``watch`` runs out of patience.

    ``first_step`` is the number of steps already done: 0, or the step of the checkpoint that is
    resumed. Raises ``RunFailed`` when the run diverges or a single row does not fit into memory.
    When a stop is requested, saves a checkpoint and raises ``Interrupted``.
    """
    hooks, watch = hooks or Hooks(), watch or Watch()
    per_epoch = steps_per_epoch(len(pace.windows or examples), pace.rows_per_step)
    steps = _rows_of_steps(examples, pace, first_step)
    pace = replace(pace, max_steps=trainee.last_step(pace.max_steps))
    trainee.token_budget = trainee.token_budget or pace.token_budget
    started, all_tokens, done = time.perf_counter(), 0, first_step
    trainee.model.train()
    if watch.seen.evaluation_due:  # the run was stopped in it
        yield from _evaluate_and_save(first_step, trainee, pace, hooks, watch, accelerator)
    while done < pace.max_steps:
        step = done + 1
        if watch.out_of_patience:
            yield EarlyStopped(done, *watch.best)
            break
        step_started = time.perf_counter()
        rows = next(steps)
        loss = yield from fitting_gradients(step, trainee, rows, loss_sum, accelerator, hooks.stop)
        if loss is None:  # a stop was requested: this step is undone
            yield from _save(hooks, done)
            raise _interrupted(done, pace)
        rate = trainee.schedule.get_last_lr()[0]
        grad_norm = clip(trainee, pace.max_grad_norm)
        if math.isfinite(loss) and math.isfinite(grad_norm):
            # Before the update: the watch keeps the weights that produced this loss.
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
        if hooks.deadline is not None:
            pace = yield from hooks.deadline.look(step, pace, trainee, accelerator)
        yield from _evaluate_and_save(step, trainee, pace, hooks, watch, accelerator)
    trainee.model.eval()
    yield TrainingEnded(done, time.perf_counter() - started, all_tokens)


def _rows_of_steps(
    examples: Sequence[Example], pace: Pace, first_step: int
) -> Iterator[list[Example]]:
    return iterate_steps(
        examples,
        rows_per_step=pace.rows_per_step,
        seed=pace.seed,
        first_step=first_step,
        windows=pace.windows,
    )


def _evaluate_and_save(
    step: int,
    trainee: Trainee,
    pace: Pace,
    hooks: Hooks,
    watch: Watch,
    accelerator: Accelerator,
) -> Iterator[Event]:
    """What follows a finished step: evaluation and checkpoint, if due, and a requested stop."""
    if hooks.evaluate is not None and _evaluation_due(step, pace, watch):
        watch.seen.evaluation_due = True
        held_out_loss = yield from hooks.evaluate()
        trainee.model.train()
        if held_out_loss is None:  # given up; it comes first when the run continues
            yield from _save(hooks, step)
            raise _interrupted(step, pace)
        watch.seen.evaluation_due = False
        yield Evaluated(step, held_out_loss)
        yield from watch.evaluated(step, held_out_loss)
    stopping = hooks.stop.agreed(accelerator)
    is_best = watch.keep_best and watch.best[0] == step
    if stopping or is_best or _due(step, pace.save_steps):
        yield from _save(hooks, step)
    if stopping:
        raise _interrupted(step, pace)


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _evaluation_due(step: int, pace: Pace, watch: Watch) -> bool:
    """Whether to evaluate after ``step``.

    The finished run is measured anyway, so the last step needs no evaluation of its own, unless
    the best checkpoint is chosen by these evaluations.
    """
    return watch.keep_best if step == pace.max_steps else _due(step, pace.eval_steps)


def _save(hooks: Hooks, step: int) -> Iterator[Event]:
    if hooks.save is not None:
        yield CheckpointSaved(step, hooks.save(step))


def _interrupted(done: int, pace: Pace) -> Interrupted:
    return Interrupted(f"interrupted after step {done} of {pace.max_steps}")
