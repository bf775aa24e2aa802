"""LoRA layers that share an input, computed as one product and one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lorita.engine.kernels import reference
from lorita.engine.kernels.products import use_onednn_float32
from lorita.engine.lora_linear import Group, Member
from tests.engine.kernels.twins import DTYPES, check, random

pytestmark = pytest.mark.usefixtures("backend")


class FakeLayer(nn.Module):
    """What the group reads from PEFT's LoRA layer."""

    def __init__(self, a: Tensor, b: Tensor, scaling: float, drop: float = 0.0) -> None:
        super().__init__()
        self.disable_adapters = self.merged = False
        self.scaling = {"default": scaling}
        self.lora_dropout = nn.ModuleDict({"default": nn.Dropout(drop)})
        self.lora_A = nn.ModuleDict({"default": nn.Linear(*reversed(a.shape), bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(*reversed(b.shape), bias=False)})
        self.lora_A["default"].weight = nn.Parameter(a)
        self.lora_B["default"].weight = nn.Parameter(b)


def group_of(
    dtype: torch.dtype, drop: float = 0.0, train_bias: bool = False
) -> tuple[Group, list[FakeLayer]]:
    """Three layers of 12, 6 and 6 outputs; the second has no adapter, the third no bias."""
    members, layers = [], []
    for i, size in enumerate((12, 6, 6)):
        base = nn.Linear(10, size, bias=i < 2, dtype=dtype).requires_grad_(False)
        base.weight.data = random(size, 10, seed=i).to(dtype)
        if base.bias is not None:
            base.bias.data = random(size, seed=i).to(dtype)
            base.bias.requires_grad_(train_bias)
        layer = FakeLayer(
            random(2 + i, 10, seed=i).float(), random(size, 2 + i, seed=i).float(), 0.5 + i, drop
        )
        members.append(Member(base, None if i == 1 else layer))
        layers.append(layer)
    return Group(members), layers


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("onednn", [False, True])
def test_lora_group(dtype: torch.dtype, onednn: bool) -> None:
    group, layers = group_of(dtype, train_bias=True)
    matrices = [m for i in (0, 2) for m in group.members[i].matrices]

    def fast(x: Tensor, *pairs: Tensor) -> Tensor:
        return group(x)

    def plain(x: Tensor, *pairs: Tensor) -> Tensor:
        parts = []
        for i, member in enumerate(group.members):
            base: Any = member.base
            weight, bias = (None if t is None else t.to(x.dtype) for t in (base.weight, base.bias))
            a, b = (t.to(x.dtype) for t in layers[i].lora_A_B())
            scale = 0.0 if member.layer is None else member.scaling
            parts.append(reference.lora_linear(x, weight, bias, a, b, scale))
        return torch.cat(parts, dim=-1)

    FakeLayer.lora_A_B = lambda self: (  # type: ignore[attr-defined]
        self.lora_A["default"].weight,
        self.lora_B["default"].weight,
    )
    use_onednn_float32(onednn)
    try:
        check(fast, plain, [random(3, 5, 10)], dtype)
        x = random(3, 5, 10).to(dtype)
        biases = [m.base.bias for m in group.members[:2]]
        direction = random(3, 5, 24).to(dtype)
        wanted = [*matrices, *biases]
        mine = torch.autograd.grad(group(x), wanted, direction)
        theirs = torch.autograd.grad(plain(x), wanted, direction)
    finally:
        use_onednn_float32(False)
    for got, expected in zip(mine, theirs, strict=True):
        tolerance = 1e-5 if dtype == torch.float32 else 2e-2
        assert (got - expected).norm() <= tolerance * expected.norm()


def test_lora_group_leaves_the_layers_their_weights() -> None:
    group, _ = group_of(torch.float32)
    x = random(4, 10).float()
    group.members[0].layer.disable_adapters = True  # type: ignore[union-attr]
    group.members[2].layer.merged = True  # type: ignore[union-attr]
    expected = torch.cat([member.base(x) for member in group.members], dim=-1)
    torch.testing.assert_close(group(x), expected)


def test_dropout_scales_drops_and_stops_in_evaluation() -> None:
    group, layers = group_of(torch.float32, drop=0.5)
    x = random(4, 10).float()
    torch.manual_seed(0)
    draws = torch.stack([group(x) for _ in range(4000)])
    for layer in layers:
        layer.eval()
    assert torch.equal(group(x), group(x))
    assert (draws.mean(0) - group(x)).abs().max() < 0.06 * group(x).abs().max()
