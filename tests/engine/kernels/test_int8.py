"""Products in 8-bit integers, against the same rounding in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lorita.engine.kernels import reference
from lorita.engine.kernels.int8 import LARGEST, Int8Weight, activation_bits
from lorita.engine.kernels.ops import frozen_linear
from tests.engine.kernels.twins import DTYPES, random

pytestmark = pytest.mark.usefixtures("backend")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tokens", [1, 2, 37, 300])
@pytest.mark.parametrize(("outputs", "inputs"), [(24, 40), (67, 131), (130, 1500)])
@pytest.mark.parametrize("bits", [8, 16])
def test_int8_products(
    bits: int, outputs: int, inputs: int, tokens: int, dtype: torch.dtype
) -> None:
    """Both directions against the same rounding in float64; a row of zeros stays zero."""
    shapes = ((outputs, inputs), (tokens, inputs), (tokens, outputs))
    weight, x, grad = (random(*shape).to(dtype) for shape in shapes)
    weight[3] *= 50  # scales that differ between rows
    x[0] = 0
    narrow = Int8Weight.of(weight, bits)
    largest = LARGEST[bits]
    exact = reference.int8_linear(x.double(), weight.double(), largest)
    back = reference.int8_linear_back(grad.double(), weight.double(), largest)
    rounding = 1e-3 if dtype == torch.float32 else 4e-3  # a tie may be rounded the other way
    for got, wanted in ((narrow.forward(x), exact), (narrow.backward(grad), back)):
        assert got.dtype == dtype
        assert (got.double() - wanted).norm() <= rounding * wanted.norm()
    assert not narrow.forward(x)[0].any()


def test_sums_of_the_largest_numbers_do_not_overflow() -> None:
    x, weight = torch.ones(7, 4096), torch.ones(20, 4096)
    narrow = Int8Weight.of(weight, 16)
    torch.testing.assert_close(narrow.forward(x), torch.full((7, 20), 4096.0))
    torch.testing.assert_close(narrow.backward(-torch.ones(7, 20)), torch.full((7, 4096), -20.0))


def test_sixteen_bits_keep_what_stands_beside_an_outlier() -> None:
    """Activations of language models have a few numbers that are hundreds of times the others."""
    x, weight = random(30, 64).float(), random(16, 64, scale=0.1).float()
    x[:, 5] = 300
    weight[:, 5] = 0
    exact, error = x @ weight.T, {}
    for bits in (8, 16):
        got = Int8Weight.of(weight, bits).forward(x)
        error[bits] = float((got - exact).norm() / exact.norm())
    assert error[8] > 0.1
    assert error[16] < 0.01


@pytest.mark.parametrize(
    ("usable", "bits"),
    [({"avx2"}, 16), ({"avx2", "avx_vnni"}, 16), ({"avx2", "avx512f"}, 16),
     ({"avx2", "avx512f", "avx512_vnni"}, 8), ({"asimd"}, 8)],
)  # fmt: skip
def test_the_processor_decides_how_activations_are_rounded(
    usable: set[str], bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorita.engine.kernels.int8.usable_instructions", lambda: usable)
    assert activation_bits() == bits


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
