"""Dropout: its share, its independence, its generator."""

from __future__ import annotations

import pytest
import torch

from lorita.engine.kernels.dropout import add_kept, drop
from tests.engine.kernels.twins import DTYPES, random

pytestmark = pytest.mark.usefixtures("backend")


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_keeps_its_share_everywhere(dtype: torch.dtype) -> None:
    mask, kept = drop(torch.ones(1000, 1001, dtype=dtype), 0.25)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    mask = mask.flatten().float()
    assert abs(float(mask.mean()) - 0.75) < 0.003
    for lane in range(4):  # four numbers share one draw: each has the same share
        assert abs(float(mask[lane::4].mean()) - 0.75) < 0.005
    for distance in (1, 2, 4, 16, 1001):  # neighbours are independent
        assert abs(float((mask[distance:] * mask[:-distance]).mean()) - 0.75**2) < 0.005
    other, _ = drop(torch.ones(1000, 1001, dtype=dtype), 0.25)
    assert abs(float((other.flatten() * mask).mean()) - 0.75**2) < 0.005
    out, x = random(1000, 1001).to(dtype), random(1000, 1001, seed=1).to(dtype)
    expected = out + x * mask.view(x.shape).to(dtype)
    add_kept(out, x, kept, 0.25)
    assert torch.equal(out, expected)


def test_dropout_comes_from_torchs_generator() -> None:
    x = torch.ones(50, 40)
    torch.manual_seed(3)
    first, _ = drop(x, 0.5)
    second, _ = drop(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(drop(x, 0.5)[0], first)
    assert not torch.equal(first, second)
