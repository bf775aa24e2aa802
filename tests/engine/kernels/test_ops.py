"""Norms, activations and frozen products, against their plain twins."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lorita.engine.kernels import reference
from lorita.engine.kernels.ops import (
    column_sums,
    frozen_linear,
    gated_activation,
    gelu_tanh,
    rms_norm,
)
from lorita.engine.kernels.products import use_onednn_float32
from tests.engine.kernels.twins import DTYPES, check, random

pytestmark = pytest.mark.usefixtures("backend")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("plus_one", [False, True])
def test_rms_norm(dtype: torch.dtype, plus_one: bool) -> None:
    options = {"eps": 1e-5, "plus_one": plus_one}
    check(
        lambda x, w: rms_norm(x, w, **options),
        lambda x, w: reference.rms_norm(x, w, **options),
        [random(2, 7, 48), random(48)],
        dtype,
        grads=1,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["silu", "gelu_tanh"])
def test_gated_activation(dtype: torch.dtype, kind: str) -> None:
    check(
        lambda gate_up: gated_activation(gate_up, kind),
        lambda gate_up: reference.gated_activation(*gate_up.chunk(2, dim=-1), kind),
        [random(1, 9, 2 * 37, scale=4.0)],
        dtype,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 7, 37), (5,), (3, 64)])
def test_gelu_tanh(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    check(gelu_tanh, reference.gelu_tanh, [random(*shape, scale=4.0)], dtype)


def test_gelu_tanh_of_nothing() -> None:
    assert gelu_tanh(torch.empty(0, 8)).shape == (0, 8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("tokens", "width"), [(1, 1), (37, 130), (300, 64)])
def test_column_sums(dtype: torch.dtype, tokens: int, width: int) -> None:
    x = random(tokens, width + 3).to(dtype)[:, 2 : width + 2]
    assert torch.allclose(
        column_sums(x).double(), reference.column_sums(x.double()), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("onednn", [False, True])
def test_frozen_linear(onednn: bool) -> None:
    use_onednn_float32(onednn)
    try:
        check(
            frozen_linear,
            nn.functional.linear,
            [random(2, 5, 12), random(7, 12), random(7)],
            torch.float32,
            grads=1,
        )
    finally:
        use_onednn_float32(False)
