"""One optimizer step: the gradients of its rows, in pieces that fit into memory, and the update."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorita.data.batches import micro_batches
from lorita.errors import RunFailed
from lorita.training.events import MicroBatchReduced
from lorita.training.stop_request import StopRequest

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch.optim.lr_scheduler import LRScheduler

    from lorita.data.examples import Example
    from lorita.training.objective import LossSum
    from lorita.training.optimizer import Masters


@dataclass
class Trainee:
    """What training changes: the trainable parameters, the optimizer and the schedule.

    ``token_budget`` is how many tokens are computed at once; it shrinks when memory runs out.
    """

    model: torch.nn.Module
    masters: Masters
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    token_budget: int = 0

    def forget_gradients(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)


def fitting_gradients(
    step: int,
    trainee: Trainee,
    rows: Sequence[Example],
    loss_sum: LossSum,
    accelerator: Accelerator,
    stop: StopRequest | None = None,
) -> Generator[MicroBatchReduced, None, float | None]:
    """Leave the gradients of ``step`` in the parameters; the value returned is its mean loss.

    Where memory runs out, the step is begun again in smaller pieces, with an event each time.
    None: a stop was requested, and the step is undone. ``RunFailed`` where a single row is too
    much for the memory.
    """
    stop = stop or StopRequest()
    while (loss := gradients(trainee, rows, loss_sum, accelerator, stop)) is None:
        if stop.requested:
            return None
        trainee.token_budget = smaller_budget(trainee.token_budget, rows)
        yield MicroBatchReduced(step, trainee.token_budget)
    return loss


def gradients(
    trainee: Trainee,
    rows: Sequence[Example],
    loss_sum: LossSum,
    accelerator: Accelerator,
    stop: StopRequest,
) -> float | None:
    """Leave the step's gradients in the parameters and return its mean loss (nats per target).

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
        for batch in micro_batches(mine, trainee.token_budget):
            if stop.requested:
                _undo(trainee, random_state)
                return None
            loss = loss_sum(batch) / targets
            accelerator.backward(loss)
            trainee.masters.take_gradients()
            total += loss.detach().double().cpu()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _undo(trainee, random_state)
        return None
    if accelerator.num_processes > 1:
        _add_up(trainee.masters.parameters.values(), accelerator)
        total = accelerator.reduce(total.to(accelerator.device), reduction="sum")
    return float(total)


def _undo(trainee: Trainee, random_state: torch.Tensor) -> None:
    import torch

    trainee.forget_gradients()
    torch.set_rng_state(random_state)


def _add_up(parameters: Iterable[torch.nn.Parameter], accelerator: Accelerator) -> None:
    """Sum the gradients of all processes; an adapter is small enough to send it whole."""
    import torch

    for parameter in parameters:
        if parameter.grad is None:  # this process had no rows
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad = accelerator.reduce(parameter.grad, reduction="sum")


def clip(trainee: Trainee, max_grad_norm: float, accelerator: Accelerator) -> float:
    """Scale the gradients down to ``max_grad_norm`` (0: never); return their norm before."""
    parameters = list(trainee.masters.parameters.values())
    return float(accelerator.clip_grad_norm_(parameters, max_grad_norm or math.inf))


def apply(trainee: Trainee) -> None:
    """Change the weights by the gradients, and forget these."""
    trainee.optimizer.step()
    trainee.masters.give_weights()
    trainee.schedule.step()
    trainee.forget_gradients()


def pass_over(trainee: Trainee) -> None:
    """Leave the weights as they are; the schedule goes on with the number of the step."""
    import warnings

    trainee.forget_gradients()
    with warnings.catch_warnings():  # torch wonders about a schedule before the first update
        warnings.simplefilter("ignore")
        trainee.schedule.step()


def smaller_budget(budget: int, rows: Sequence[Example]) -> int:
    """Half the tokens at once; ``RunFailed`` where a single row is all there is."""
    longest = max(len(row.input_ids) for row in rows)
    tokens = sum(len(row.input_ids) for row in rows)
    if budget <= longest or len(rows) == 1:
        raise RunFailed(
            f"a single row of {longest} tokens does not fit into memory",
            hint="Lower --max-length, or set --gradient-checkpointing.",
        )
    return max(min(budget, tokens) // 2, longest)


def is_out_of_memory(error: BaseException) -> bool:
    """torch raises its own class on a GPU and a plain RuntimeError on a CPU; oneDNN, which finds no
    room for its buffers, says that it could not create a primitive."""
    text = str(error).lower()
    known = ("out of memory", "can't allocate", "could not create a primitive")
    return isinstance(error, MemoryError) or any(words in text for words in known)
