"""Weights that stay quantised compute as the same numbers in an ordinary tensor."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from lorita.engine import block_tensor
from lorita.engine.block_tensor import Blocks, BlockTensor, BlockWeight
from lorita.engine.kernels import native
from lorita.errors import ModelError
from lorita.models.quantise import quantised

KINDS = {"Q8_0": 8, "Q4_1": 3, "F16": 1, "BF16": 30, "F32": 0}


def blocks_of(kind: int = 8, rows: int = 24, width: int = 64, seed: int = 0) -> Blocks:
    numbers = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    floats = {0: torch.float32, 1: torch.float16, 30: torch.bfloat16}
    if kind in floats:
        return Blocks(numbers.to(floats[kind]).view(torch.uint8), kind)
    return quantised(numbers, kind)


def numbers_of(blocks: Blocks, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return BlockTensor(blocks, dtype).expanded()


@pytest.fixture(params=["one piece", "pieces"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "pieces":
        monkeypatch.setattr(block_tensor, "PIECE", 7 * 64)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_linear_layer(kind: int, pieces: None) -> None:
    blocks = blocks_of(kind)
    weight = nn.Parameter(BlockTensor(blocks, torch.float32), requires_grad=False)
    x = torch.randn(5, 3, 64, requires_grad=True)
    bias = torch.randn(24)
    grad = torch.randn(5, 3, 24)
    out = functional.linear(x, weight, bias)
    (d_x,) = torch.autograd.grad(out, x, grad)
    expected = functional.linear(x, numbers_of(blocks), bias)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(d_x, torch.autograd.grad(expected, x, grad)[0], rtol=1e-5, atol=1e-5)


def test_several_matrices_as_one_weight(pieces: None) -> None:
    parts = [blocks_of(8, 20, seed=1), blocks_of(3, 9, seed=2), blocks_of(0, 1, seed=3)]
    whole = torch.cat([numbers_of(part) for part in parts])
    weight = BlockWeight(parts, torch.float32)
    x, grad = torch.randn(6, 64), torch.randn(6, 30)
    assert weight.shape == (30, 64)
    torch.testing.assert_close(weight.forward(x), x @ whole.t(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weight.backward(grad), grad @ whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits(dtype: torch.dtype, pieces: None) -> None:
    blocks = blocks_of()
    x = torch.randn(6, 64).to(dtype)
    out = BlockWeight([blocks], dtype).forward(x)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), x.float() @ numbers_of(blocks).t(), rtol=2e-2, atol=0.1)


def test_embeddings_are_looked_up_in_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = blocks_of()
    table: Any = nn.Embedding(24, 64, _weight=torch.empty(24, 64, device="meta"))
    table.weight = nn.Parameter(BlockTensor(blocks, torch.bfloat16), requires_grad=False)
    ids = torch.tensor([[3, 0, 23], [3, 7, 7]])
    expected = numbers_of(blocks, torch.bfloat16)[ids]
    monkeypatch.setattr(BlockTensor, "expanded", lambda self: pytest.fail("all was expanded"))
    assert torch.equal(table(ids), expected)
    with pytest.raises(IndexError):
        table(torch.tensor([24]))


def test_any_other_operation_gets_the_numbers() -> None:
    blocks = blocks_of()
    weight, numbers = BlockTensor(blocks, torch.float32), numbers_of(blocks)
    assert torch.equal(weight.t(), numbers.t()) and type(weight.t()) is torch.Tensor
    assert torch.equal(torch.cat([weight, weight]), torch.cat([numbers, numbers]))
    assert torch.equal(weight + 1, numbers + 1)
    assert torch.equal(1 - weight[:3], 1 - numbers[:3])


def test_it_cannot_be_changed() -> None:
    layer = nn.Linear(64, 24, bias=False)
    layer.weight = nn.Parameter(BlockTensor(blocks_of(), torch.float32), requires_grad=False)
    for change in (
        lambda: layer.weight.data.add_(1),
        lambda: layer.weight.zero_(),
        lambda: layer.weight.copy_(torch.zeros(24, 64)),
        lambda: torch._foreach_mul_([layer.weight], 2.0),
    ):
        with pytest.raises(ModelError, match="cannot be changed"):
            change()


def test_copies_and_other_formats_keep_the_blocks() -> None:
    layer = nn.Linear(64, 24, bias=False)
    layer.weight = nn.Parameter(BlockTensor(blocks_of(), torch.float32), requires_grad=False)
    numbers = numbers_of(layer.weight.blocks)
    twin = copy.deepcopy(layer)
    assert isinstance(twin.weight, nn.Parameter) and not twin.weight.requires_grad
    narrow = copy.deepcopy(layer).to(torch.bfloat16)
    for one in (twin.weight, narrow.weight, layer.weight.detach(), layer.weight.data):
        assert isinstance(one, BlockTensor)
        assert one.data_ptr() == layer.weight.data_ptr()
        assert torch.equal(one.expanded(), numbers.to(one.dtype))


def test_single_numbers_are_found_without_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = blocks_of()
    numbers, places = numbers_of(blocks), torch.tensor([0, 63, 64, 700, 1535, 64])
    monkeypatch.setattr(BlockTensor, "expanded", lambda self: pytest.fail("all was expanded"))
    found = BlockTensor(blocks, torch.float32).values_at(places)
    assert torch.equal(found, numbers.reshape(-1)[places])


def test_without_a_compiler() -> None:
    blocks = blocks_of(3)
    expected = numbers_of(blocks)
    with native.disabled():
        assert torch.equal(numbers_of(blocks), expected)
