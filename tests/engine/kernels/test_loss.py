"""Cross-entropy from hidden states, against its plain twin."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from lorita.engine.kernels import loss, reference
from lorita.engine.kernels.loss import cross_entropy_sum
from tests.engine.kernels.twins import DTYPES, check, random

pytestmark = pytest.mark.usefixtures("backend")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"softcap": 3.0}, {"logit_scale": 0.25}], ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_cross_entropy(dtype: torch.dtype, options: dict[str, float], bias: bool) -> None:
    positions, vocab, width = 300, 131, 16
    targets = torch.randint(vocab, (positions,), generator=torch.Generator().manual_seed(0))
    bias_V = random(vocab).to(dtype) if bias else None

    def plain(hidden: Tensor, weight: Tensor) -> Tensor:
        wide = bias_V.to(hidden.dtype) if bias_V is not None else None
        return reference.cross_entropy_sum(hidden, weight, targets, bias=wide, **options)

    check(
        lambda hidden, weight: cross_entropy_sum(hidden, weight, targets, bias=bias_V, **options),
        plain,
        [random(positions, width), random(vocab, width)],
        dtype,
        grads=1,
    )


def test_cross_entropy_keeps_its_memory_from_call_to_call() -> None:
    weight = random(131, 16).bfloat16()
    targets = torch.arange(40) % 131

    def gradient(hidden: Tensor) -> Tensor:
        hidden = hidden.clone().requires_grad_()
        cross_entropy_sum(hidden, weight, targets[: len(hidden)]).backward()
        assert hidden.grad is not None
        return hidden.grad

    small, large = random(7, 16).bfloat16(), random(40, 16).bfloat16()
    loss._kept.buffer = torch.empty(0, dtype=torch.uint8)
    with torch.inference_mode():  # a run measures the base before it trains
        cross_entropy_sum(random(50, 16).bfloat16(), weight, torch.zeros(50, dtype=torch.long))
    first = gradient(small)
    alone = first.clone()
    memory = loss._kept.buffer.data_ptr()
    gradient(large)
    assert torch.equal(first, alone)  # a later call does not overwrite an earlier gradient
    waiting = small.clone().requires_grad_()
    total = cross_entropy_sum(waiting, weight, targets[:7])
    gradient(large)
    total.backward()
    assert waiting.grad is not None
    assert torch.equal(waiting.grad, alone)  # nor what its backward pass still needs
    assert loss._kept.buffer.data_ptr() == memory
    with ThreadPoolExecutor(4) as threads:
        assert all(torch.equal(g, alone) for g in threads.map(gradient, [small] * 16))
