"""Heads to slots and back, against plain indexing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lorita.engine.kernels import reference
from lorita.engine.kernels.head_layout import Part, Rotation
from lorita.engine.kernels.heads import join_heads, split_heads
from lorita.engine.kernels.row_layout import RowLayout
from tests.engine.kernels.twins import DTYPES, check, random

pytestmark = pytest.mark.usefixtures("backend")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("f", [4, 3])
def test_heads_and_rotary(dtype: torch.dtype, f: int) -> None:
    """Two key/value heads with three query heads each, in one output."""
    tokens, kv, group, d = 11, 2, 3, 8
    angle = random(tokens, f)
    cos, sin = angle.cos().float(), angle.sin().float()
    rows = RowLayout((4, 5, 2))
    parts = (
        Part(0, kv * group, group, group * d, d, rotate=True),
        Part(kv * group * d, kv, 1, d, d),
    )

    def fast(x: Tensor) -> Tensor:
        q, v = split_heads(x, parts, rows, Rotation(cos, sin))
        return torch.cat([join_heads(q, rows), join_heads(v, rows)], dim=1)

    def plain(x: Tensor) -> Tensor:
        q = x[:, : kv * group * d].unflatten(1, (kv * group, d))
        turned = reference.rotary(q, cos.to(x.dtype), sin.to(x.dtype))
        return torch.cat([turned.flatten(1), x[:, kv * group * d :]], dim=1)

    check(fast, plain, [random(tokens, (kv * group + kv) * d)], dtype)


def test_interleaved_heads_are_found() -> None:
    """[head 0: q k v, head 1: q k v], as in BLOOM and GPT-NeoX."""
    x = random(4, 2 * 3 * 5).float()
    parts = tuple(Part(i * 5, 2, 1, 15, 5) for i in range(3))
    expected = x.view(4, 2, 3, 5)
    rows = RowLayout((4,))
    for i, part in enumerate(split_heads(x, parts, rows)):
        assert torch.equal(part.view(2, 4, 5), expected[:, :, i].transpose(0, 1))
