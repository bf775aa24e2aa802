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
    loraplus_lr_ratio: float | None = None,
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, 2019) over named parameters; vectors (biases) are not decayed.

    With ``loraplus_lr_ratio``, B and vectors learn that many times as fast as A and the rest
    (LoRA+, Hayou et al., 2024, arXiv:2402.12354).
    """
    import torch

    ratio = loraplus_lr_ratio or 1.0
    named = parameters.items()
    slow = [p for name, p in named if p.ndim >= 2 and not _is_up(name)]
    ups = [p for name, p in named if p.ndim >= 2 and _is_up(name)]
    vectors = [p for p in parameters.values() if p.ndim < 2]
    if loraplus_lr_ratio is None:  # in the order of the parameters
        slow, ups = [p for p in parameters.values() if p.ndim >= 2], []
    fast = learning_rate * ratio
    groups = [
        {"params": slow, "weight_decay": weight_decay},
        {"params": ups, "weight_decay": weight_decay, "lr": fast},
        {"params": vectors, "weight_decay": 0.0, "lr": fast},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=learning_rate,
        betas=betas,
        eps=epsilon,
        fused=True,
    )


def _is_up(name: str) -> bool:
    """Whether a parameter is a B of LoRA."""
    return "lora_B" in name or "lora_embedding_B" in name


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

    It starts at ``lowest`` and reaches ``highest`` after ``steps`` steps. Groups of parameters keep
    the ratio of their rates to that of the first.
    """
    from torch.optim.lr_scheduler import LambdaLR

    # An earlier schedule may have warmed the rates up from zero.
    rates = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = group["initial_lr"] = lowest * (rate / rates[0])
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
