"""Products of 16-bit numbers computed in float32, where the processor has none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lorita.engine.kernels import flash, products
from lorita.engine.kernels.attention import attention
from lorita.engine.kernels.native import kernel
from lorita.engine.kernels.row_layout import RowLayout
from lorita.engine.kernels.score_rule import Scores

TOKENS, INPUTS, OUTPUTS = 6, 10, 14


@pytest.fixture(params=["whole", "in pieces"])
def no_bf16_products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "has_bf16_products", lambda: False)
    if request.param == "in pieces":
        monkeypatch.setattr(products, "WIDE_AT_ONCE", 40)


def narrow(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).bfloat16()


def rounded_once(wide: Tensor) -> Tensor:
    return wide.bfloat16()


@pytest.mark.usefixtures("no_bf16_products")
def test_products_are_rounded_once() -> None:
    x, weight, grad = narrow(TOKENS, INPUTS), narrow(OUTPUTS, INPUTS), narrow(TOKENS, OUTPUTS)
    assert products.product(x, weight).equal(rounded_once(x.float() @ weight.float().t()))
    back = products.product_back(grad, weight)
    # The parts of a sum in pieces may be added in another order.
    torch.testing.assert_close(back, rounded_once(grad.float() @ weight.float()))
    assert back.dtype == torch.bfloat16


@pytest.mark.usefixtures("no_bf16_products")
def test_a_bias_and_sums_in_place() -> None:
    x, weight, bias, out = (
        narrow(TOKENS, INPUTS),
        narrow(OUTPUTS, INPUTS),
        narrow(OUTPUTS),
        narrow(TOKENS, OUTPUTS),
    )
    expected = x.float() @ weight.float().t()
    torch.testing.assert_close(
        products.product(x, weight, bias).float(), expected + bias.float(), rtol=2**-7, atol=2**-7
    )
    torch.testing.assert_close(products.times(x, weight.t()), rounded_once(expected))
    added = products.add_times(out.clone(), x, weight.t())
    torch.testing.assert_close(added.float(), out.float() + expected, rtol=2**-7, atol=2**-7)


@pytest.mark.usefixtures("no_bf16_products")
def test_other_formats_are_left_alone() -> None:
    assert not products.widened(torch.empty(1))
    assert not products.widened(torch.empty(1, dtype=torch.bfloat16, device="meta"))
    assert products.widened(torch.empty(1, dtype=torch.bfloat16))


@pytest.mark.parametrize("has", [True, False])
def test_float16_has_instructions_of_its_own(monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    monkeypatch.setattr(products, "has_float16_products", lambda: has)
    x, weight = narrow(TOKENS, INPUTS).half(), narrow(OUTPUTS, INPUTS).half()
    assert products.widened(x) is not has
    out = products.product(x, weight)
    assert out.dtype == torch.float16
    torch.testing.assert_close(out, (x.float() @ weight.float().t()).half())


def test_nothing_is_widened_where_the_processor_has_the_products(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(products, "has_bf16_products", lambda: True)
    assert not products.widened(torch.empty(1, dtype=torch.bfloat16))


def test_attention_takes_the_kernel_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "has_bf16_products", lambda: False)
    if kernel("attention", torch.empty(0)) is None:
        pytest.skip("the kernel cannot be compiled for this processor")
    rows = RowLayout((7, 4))
    slots = rows.num_slots
    tensors = [narrow(slots, 2, 16), narrow(slots, 1, 16), narrow(slots, 1, 16)]
    mine = [t.clone().requires_grad_() for t in tensors]
    wide = [t.float().requires_grad_() for t in tensors]
    assert flash.flash_kernels(mine[0], 16) is not None
    direction = narrow(slots, 2, 16)
    out, expected = (attention(*given, rows, Scores(scale=0.25)) for given in (mine, wide))
    out.backward(direction)
    expected.backward(direction.float())
    torch.testing.assert_close(out, rounded_once(expected))
    for got, right in zip(mine, wide, strict=True):
        assert got.grad is not None
        assert right.grad is not None
        assert (got.grad.float() - right.grad).norm() <= 1e-2 * right.grad.norm()
