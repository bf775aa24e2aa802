"""The training loop: one for CPU, GPU and several processes.

    for each step:
        take its rows; each process computes its share of them, in micro-batches that fit
        loss = sum over all target tokens of the step / their number
        clip, step the optimizer and the schedule
        now and then: evaluate, save a checkpoint

``train`` is a generator of events (``events.py``). It prints nothing, and knows nothing of files:
what to do at an evaluation or a checkpoint is handed in.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lorita.data.batches import iterate_steps, micro_batches, steps_per_epoch
from lorita.data.tokens import Example
from lorita.errors import Interrupted, RunFailed
from lorita.training.events import (
    CheckpointSaved,
    Evaluated,
    Event,
    MicroBatchReduced,
    StepDone,
    TrainingEnded,
)
from lorita.training.guards import StopRequest
from lorita.training.objective import LossSum
from lorita.training.optimizer import Masters

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from accelerate import Accelerator
    from torch.optim.lr_scheduler import LRScheduler


@dataclass
class Trainee:
    """What training changes: the trainable parameters, the optimizer and the schedule."""

    model: torch.nn.Module
    masters: Masters
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler


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
    first_step: int = 0,
) -> Iterator[Event]:
    """Train from ``first_step`` to ``pace.max_steps``.

    Raises ``RunFailed`` when the loss is not finite or one row alone does not fit into memory,
    and ``Interrupted`` after a checkpoint when a stop was requested.
    """
    hooks = hooks or Hooks()
    per_epoch = steps_per_epoch(len(pace.windows or examples), pace.rows_per_step)
    steps = iterate_steps(
        examples,
        rows_per_step=pace.rows_per_step,
        seed=pace.seed,
        first_step=first_step,
        windows=pace.windows,
    )
    budget = pace.token_budget
    started, all_tokens = time.perf_counter(), 0
    trainee.model.train()
    for step in range(first_step + 1, pace.max_steps + 1):
        step_started = time.perf_counter()
        rows = next(steps)
        while (loss := _gradients(trainee, rows, loss_sum, budget, accelerator, hooks)) is None:
            if hooks.stop.requested:
                yield from _save(hooks, step - 1)
                raise Interrupted(f"interrupted after step {step - 1} of {pace.max_steps}")
            budget = _smaller_budget(budget, rows)
            yield MicroBatchReduced(step, budget)
        rate = trainee.schedule.get_last_lr()[0]
        grad_norm = _update(trainee, loss, step, pace, accelerator)
        tokens = sum(len(row.input_ids) for row in rows)
        all_tokens += tokens
        seconds = time.perf_counter() - step_started
        yield StepDone(step, step / per_epoch, loss, grad_norm, rate, tokens, seconds)
        if _due(step, pace.eval_steps) and step < pace.max_steps and hooks.evaluate:
            yield Evaluated(step, hooks.evaluate())
            trainee.model.train()
        if _due(step, pace.save_steps) or (hooks.stop.requested and step < pace.max_steps):
            yield from _save(hooks, step)
        if hooks.stop.requested and step < pace.max_steps:
            raise Interrupted(f"interrupted after step {step} of {pace.max_steps}")
    trainee.model.eval()
    yield TrainingEnded(pace.max_steps, time.perf_counter() - started, all_tokens)


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _save(hooks: Hooks, step: int) -> Iterator[Event]:
    if hooks.save is not None:
        yield CheckpointSaved(step, hooks.save(step))


def _gradients(
    trainee: Trainee,
    rows: Sequence[Example],
    loss_sum: LossSum,
    budget: int,
    accelerator: Accelerator,
    hooks: Hooks,
) -> float | None:
    """Leave the step's gradients in the parameters and return its mean loss.

    None: the step is undone, because it did not fit into memory or a stop was requested.
    """
    import torch

    # The mean is over the targets of the whole step: a mean of the micro-batches' means would
    # weigh a token of a short row more than one of a long row.
    targets = sum(row.num_targets for row in rows)
    mine = rows[accelerator.process_index :: accelerator.num_processes]
    random_state = torch.get_rng_state()
    total = torch.zeros((), dtype=torch.float64)
    try:
        for batch in micro_batches(mine, budget):
            if hooks.stop.requested:
                trainee.optimizer.zero_grad(set_to_none=True)
                torch.set_rng_state(random_state)
                return None
            loss = loss_sum(batch) / targets
            accelerator.backward(loss)
            trainee.masters.take_gradients()
            total += loss.detach().double().cpu()
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        trainee.optimizer.zero_grad(set_to_none=True)
        torch.set_rng_state(random_state)
        return None
    if accelerator.num_processes > 1:
        _add_up(trainee.masters.parameters.values(), accelerator)
        total = accelerator.reduce(total.to(accelerator.device), reduction="sum")
    return float(total)


def _add_up(parameters: Iterable[torch.nn.Parameter], accelerator: Accelerator) -> None:
    """Sum the gradients of all processes; an adapter is small enough to send it whole."""
    import torch

    for parameter in parameters:
        if parameter.grad is None:  # this process had no rows
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad = accelerator.reduce(parameter.grad, reduction="sum")


def _update(
    trainee: Trainee, loss: float, step: int, pace: Pace, accelerator: Accelerator
) -> float:
    """Clip and apply the gradients; return their norm before clipping."""
    limit = pace.max_grad_norm or math.inf
    parameters = list(trainee.masters.parameters.values())
    grad_norm = float(accelerator.clip_grad_norm_(parameters, limit))
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        what = "loss" if not math.isfinite(loss) else "gradient"
        raise RunFailed(
            f"step {step}: the {what} is not finite (loss {loss}, gradient norm {grad_norm}); "
            "the step was not applied",
            hint="The usual cause is a learning rate that is too high; then a dtype that is too "
            "narrow (try --dtype float32).",
        )
    trainee.optimizer.step()
    trainee.masters.give_weights()
    trainee.schedule.step()
    trainee.optimizer.zero_grad(set_to_none=True)
    return grad_norm


def _smaller_budget(budget: int, rows: Sequence[Example]) -> int:
    longest = max(len(row.input_ids) for row in rows)
    tokens = sum(len(row.input_ids) for row in rows)
    if budget <= longest or len(rows) == 1:
        raise RunFailed(
            f"a single row of {longest} tokens does not fit into memory",
            hint="Lower --max-length, or set --gradient-checkpointing.",
        )
    return max(min(budget, tokens) // 2, longest)


def _is_out_of_memory(error: BaseException) -> bool:
    """torch raises its own class on a GPU and a plain RuntimeError on a CPU."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate" in text
