"""Compare a fast operation with its plain twin."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

DTYPES = [torch.float32, torch.bfloat16]


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    """Normally distributed numbers, float64, determined by shape and seed."""
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * scale


def check(
    fast: Callable[..., Tensor],
    plain: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    dtype: torch.dtype,
    grads: int | None = None,
) -> None:
    """Compare ``fast`` in ``dtype`` with ``plain`` in float64: values, and gradients of the inputs.

    ``grads`` is the number of inputs, from the first on, that get a gradient; by default all.

    The error may be 1e-5 of the norm in float32; in bf16, 1.5 times the error of the plain
    computation in bf16, on the same (rounded) inputs.
    """
    rounded = [x.to(dtype) for x in inputs]
    exact = _run(plain, [x.double() for x in rounded], grads)
    mine = _run(fast, rounded, grads)
    naive = _run(plain, rounded, grads)
    for true, got, rough in zip(exact, mine, naive, strict=True):
        error = (got.double() - true).norm() / true.norm().clamp_min(1e-12)
        if dtype == torch.float32:
            assert error < 1e-5
        else:
            allowed = (rough.double() - true).norm() / true.norm().clamp_min(1e-12)
            assert error <= 1.5 * allowed + 1e-4


def _run(function: Callable[..., Tensor], inputs: list[Tensor], grads: int | None) -> list[Tensor]:
    count = len(inputs) if grads is None else grads
    leaves = [x.clone().requires_grad_(i < count) for i, x in enumerate(inputs)]
    out = function(*leaves)
    direction = random(*out.shape, seed=9).to(out.dtype) if out.ndim else torch.ones_like(out)
    return [out.detach(), *torch.autograd.grad(out, leaves[:count], direction)]
