"""Products in 8-bit integers, against the same rounding in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lorita.engine.kernels import reference
from lorita.engine.kernels.int8 import Int8Weight
from lorita.engine.kernels.ops import frozen_linear
from tests.engine.kernels.twins import DTYPES, random

pytestmark = pytest.mark.usefixtures("backend")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tokens", [1, 2, 37, 300])
def test_int8_products(dtype: torch.dtype, tokens: int) -> None:
    """Both directions against the same rounding in float64; a row of zeros stays zero."""
    weight, x, grad = (random(*shape).to(dtype) for shape in ((24, 40), (tokens, 40), (tokens, 24)))
    weight[3] *= 50  # scales that differ between rows
    x[0] = 0
    narrow = Int8Weight.of(weight)
    exact = reference.int8_linear(x.double(), weight.double())
    back = reference.int8_linear_back(grad.double(), weight.double())
    rounding = 1e-3 if dtype == torch.float32 else 4e-3  # a tie may be rounded the other way
    for got, wanted in ((narrow.forward(x), exact), (narrow.backward(grad), back)):
        assert got.dtype == dtype
        assert (got.double() - wanted).norm() <= rounding * wanted.norm()
    assert not narrow.forward(x)[0].any()


def test_int8_frozen_linear_has_the_gradient_of_its_input() -> None:
    weight, bias = random(24, 40).float(), random(24).float()
    x = random(5, 40).float().requires_grad_()
    out = frozen_linear(x, Int8Weight.of(weight), bias)
    grad = random(5, 24, seed=3).float()
    (got,) = torch.autograd.grad(out, x, grad)
    torch.testing.assert_close(got, Int8Weight.of(weight).backward(grad))
    exact = nn.functional.linear(x, weight, bias)
    assert (out - exact).norm() < 0.02 * exact.norm()
    assert (got - grad @ weight).norm() < 0.02 * (grad @ weight).norm()
