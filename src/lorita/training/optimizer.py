"""AdamW and its learning-rate schedule; every option means what it means in the HF Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch.optim.lr_scheduler import LRScheduler


def make_optimizer(
    parameters: Mapping[str, torch.nn.Parameter],
    *,
    learning_rate: float,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, 2019) over named parameters; vectors (biases) are not decayed."""
    import torch

    decayed = [p for p in parameters.values() if p.ndim >= 2]
    others = [p for p in parameters.values() if p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=learning_rate,
        betas=betas,
        eps=epsilon,
        fused=True,
    )


def make_schedule(
    optimizer: torch.optim.Optimizer, kind: str, *, warmup_steps: int, max_steps: int
) -> LRScheduler:
    """The schedule after a linear warm-up: ``linear``, ``cosine`` or ``constant``.

    The first two fall to zero at ``max_steps``.
    """
    from transformers import get_scheduler

    name = "constant_with_warmup" if kind == "constant" else kind
    schedule: LRScheduler = get_scheduler(
        name, optimizer, num_warmup_steps=warmup_steps, num_training_steps=max_steps
    )
    return schedule


def make_rising_schedule(
    optimizer: torch.optim.Optimizer, lowest: float, highest: float, steps: int
) -> LRScheduler:
    """A learning rate that grows by the same factor in every step.

    It starts at ``lowest`` and reaches ``highest`` after ``steps`` steps.
    """
    from torch.optim.lr_scheduler import LambdaLR

    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = lowest
    return LambdaLR(optimizer, lambda step: (highest / lowest) ** (step / steps))


class Masters:
    """float32 copies (master weights) of trained parameters that the model holds in 16 bits.

    Biases and whole modules have the base's dtype. In bfloat16, a change of 1e-4 to a number near
    1 is lost in rounding; in float32 such changes add up. ``parameters`` is what the optimizer
    updates: the copy where there is one, else the parameter itself.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        import torch

        self.parameters = dict(parameters)
        self.copies: dict[str, torch.nn.Parameter] = {}
        self._narrow = dict(parameters)
        for name, parameter in parameters.items():
            if parameter.dtype != torch.float32:
                master = torch.nn.Parameter(parameter.detach().float())
                self.parameters[name] = self.copies[name] = master

    def take_gradients(self) -> None:
        """Move the gradients of the last backward pass to the copies, adding to what is there."""
        for name, master in self.copies.items():
            parameter = self._narrow[name]
            if parameter.grad is not None:
                grad = parameter.grad.float()
                master.grad = grad if master.grad is None else master.grad + grad
                parameter.grad = None

    def give_weights(self) -> None:
        """Write the copies, rounded, into the model."""
        for name, master in self.copies.items():
            self._narrow[name].data.copy_(master.data)
