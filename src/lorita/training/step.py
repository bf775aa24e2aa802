"""One optimizer step: the gradients of its rows, in micro-batches that fit in memory, and the
update."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lorita.data.batches import micro_batches
from lorita.errors import RunFailed
from lorita.system.memory import is_out_of_memory, may_be_out_of_memory
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
    ``shares_beginnings``: what rows begin with in common is computed once per micro-batch.
    ``cost`` says for how many tokens those of a row count in a micro-batch.
    ``shortened`` lists what ``deadline.shorten`` did to the schedule: (after, planned, last).
    """

    model: torch.nn.Module
    masters: Masters
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    token_budget: int = 0
    shares_beginnings: bool = False
    cost: Callable[[Sequence[int]], int] = len
    shortened: list[tuple[int, int, int]] = field(default_factory=list)

    def last_step(self, planned: int) -> int:
        """The last step of a training that was planned to have ``planned`` steps."""
        return self.shortened[-1][2] if self.shortened else planned

    def forget_gradients(self) -> None:
        """Drop all gradients, so that the next backward pass starts from none."""
        self.optimizer.zero_grad(set_to_none=True)


def fitting_gradients(
    step: int,
    trainee: Trainee,
    rows: Sequence[Example],
    loss_sum: LossSum,
    accelerator: Accelerator,
    stop: StopRequest | None = None,
) -> Generator[MicroBatchReduced, None, float | None]:
    """Compute the gradients of ``step`` into the parameters; return its mean loss.

    If memory runs out, the step is restarted with smaller micro-batches, with an event each time.
    Returns None if a stop was requested; the step is then undone. Raises ``RunFailed`` if a single
    row does not fit in memory.
    """
    stop = stop or StopRequest()
    while True:
        try:
            return gradients(trainee, rows, loss_sum, accelerator, stop)
        except (MemoryError, RuntimeError) as error:
            if not (is_out_of_memory(error) or may_be_out_of_memory(error)):
                raise
            smaller = smaller_budget(trainee.token_budget, rows, trainee.cost)
            if smaller is None and not is_out_of_memory(error):
                raise  # it fails however little is computed at once
            if smaller is None:
                raise RunFailed(
                    f"a single row of {max(len(row.input_ids) for row in rows)} tokens does not "
                    "fit in memory",
                    hint="Lower --max-length, or set --gradient-checkpointing.",
                ) from error
        trainee.token_budget = smaller
        yield MicroBatchReduced(step, smaller)


def gradients(
    trainee: Trainee,
    rows: Sequence[Example],
    loss_sum: LossSum,
    accelerator: Accelerator,
    stop: StopRequest,
) -> float | None:
    """Compute the step's gradients into the parameters; return its mean loss (nats per target).

    Returns None if a stop was requested, in whichever process. The step is then undone, as it is
    when anything is raised.
    """
    import torch

    # The mean is over the targets of the whole step: a mean of the micro-batches' means would
    # weigh a token of a short row more than one of a long row.
    targets = sum(row.num_targets for row in rows)
    mine = rows[accelerator.process_index :: accelerator.num_processes]
    random_state = torch.get_rng_state()
    total = torch.zeros((), dtype=torch.float64)
    try:
        sharing, cost = trainee.shares_beginnings, trainee.cost
        for batch in micro_batches(mine, trainee.token_budget, sharing=sharing, cost=cost):
            if stop.requested:
                break
            loss = loss_sum(batch) / targets
            loss.backward()  # accelerate's would divide and scale it as a launcher's settings say
            trainee.masters.take_gradients()
            total += loss.detach().double().cpu()
    except (MemoryError, RuntimeError):
        _undo(trainee, random_state)
        raise
    if stop.agreed(accelerator):
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


def clip(trainee: Trainee, max_grad_norm: float) -> float:
    """Scale the gradients down to ``max_grad_norm`` (0: never); return their norm before."""
    import torch

    parameters = list(trainee.masters.parameters.values())
    return float(torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm or math.inf))


def apply(trainee: Trainee) -> None:
    """Update the weights from the gradients, advance the schedule and drop the gradients."""
    trainee.optimizer.step()
    trainee.masters.give_weights()
    trainee.schedule.step()
    trainee.forget_gradients()


def pass_over(trainee: Trainee) -> None:
    """Skip the update; the schedule still advances with the step number."""
    import warnings

    trainee.forget_gradients()
    with warnings.catch_warnings():  # torch wonders about a schedule before the first update
        warnings.simplefilter("ignore")
        trainee.schedule.step()


def smaller_budget(
    budget: int, rows: Sequence[Example], cost: Callable[[Sequence[int]], int] = len
) -> int | None:
    """Half as many tokens at a time; None if rows are computed one by one already.

    ``cost`` as for ``data.batches.micro_batches``.
    """
    costs = [cost(row.input_ids) for row in rows]
    if budget <= max(costs) or len(rows) == 1:
        return None
    return max(min(budget, sum(costs)) // 2, max(costs))
