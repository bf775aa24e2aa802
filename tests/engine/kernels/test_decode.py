"""The kernels of decoding compute what plain torch does."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from lorita.engine.decoding.cache import Stored
from lorita.engine.kernels import native
from lorita.engine.kernels.decode import FrozenLayer, JoinedLayers, LowRank, attend
from lorita.engine.kernels.head_layout import Part, Rotation
from lorita.engine.kernels.score_rule import Scores


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 13, 32, 70])
@pytest.mark.parametrize("width", [7, 32, 83, 192])
def test_products(dtype: torch.dtype, rows: int, width: int) -> None:
    """Joined layers, biases in both formats, transposed weights, an adapter for each row."""
    sizes = (21, 64, 5)
    weights = [numbers(n, width, seed=n).to(dtype) for n in sizes]
    weights[1] = weights[1].t().contiguous().t()
    biases = [None, numbers(64).to(dtype), numbers(5)]
    pairs = [
        [LowRank(numbers(r, width, seed=r), numbers(n, r, seed=9), 0.7) for r in (2, 3)]
        for n in sizes
    ]
    pairs[2][0] = None  # type: ignore[call-overload]
    layers = [FrozenLayer(w, b, p) for w, b, p in zip(weights, biases, pairs, strict=True)]
    x, adapter = numbers(rows, width, seed=2).to(dtype), torch.arange(rows) % 3 - 1
    joined = JoinedLayers(layers)
    for chosen in (None, adapter):
        wanted = []
        for layer in layers:
            bias = None if layer.bias is None else layer.bias.double()
            out = functional.linear(x.double(), layer.weight.double(), bias)
            for number, pair in enumerate(layer.adapters):
                if pair is not None and chosen is not None:
                    added = x.double() @ pair.down.double().t() @ pair.up.double().t() * pair.scale
                    out += added * (chosen == number)[:, None]
            wanted.append(out)
        exact = torch.cat(wanted, 1)
        limit = 1e-6 if dtype == torch.float32 else 5e-3
        assert (joined(x, chosen).double() - exact).norm() <= limit * exact.norm()
    assert joined(x, None, torch.float32).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "how",
    [
        Scores(0.3),
        Scores(0.3, window=4),
        Scores(0.9, softcap=2.0),
        Scores(0.3, alibi_slopes=numbers(6).abs()),
    ],
    ids=["plain", "window", "softcap", "alibi"],
)
@pytest.mark.parametrize(("d", "half"), [(16, 8), (24, 5), (40, 0)])
def test_attention(dtype: torch.dtype, how: Scores, d: int, half: int) -> None:
    """Of rows of other lengths in other slots; keys and values are stored, too."""
    if native.kernel("attend", torch.zeros(1, dtype=dtype)) is None:
        pytest.skip(native.status())
    kv, group, rows = 2, 3, 4
    x = numbers(rows, (group + 2) * kv * d).to(dtype)
    parts = (
        Part(0, group * kv, group, group * d, d, rotate=half > 0),
        Part(group * kv * d, kv, 1, d, d, rotate=half > 0),
        Part((group + 1) * kv * d, kv, 1, d, d),
    )
    turn = Rotation(numbers(rows, half, seed=1), numbers(rows, half, seed=2)) if half else None
    slots, places = torch.tensor([3, 0, 5, 1]), torch.tensor([9, 0, 30, 3])
    outs, caches = [], []
    for compiled in (True, False):
        cache = Stored(*(numbers(6, kv, 33, d, seed=s).to(dtype) for s in (3, 4)))
        q, k, v = ((x, part) for part in parts)
        if compiled:
            outs.append(attend((q, k, v), how, cache, turn, slots, places))
        else:
            with native.disabled():
                outs.append(attend((q, k, v), how, cache, turn, slots, places))
        caches.append(cache)
    limit = 1e-6 if dtype == torch.float32 else 1e-2
    assert (outs[0] - outs[1]).float().norm() <= limit * outs[1].float().norm()
    for mine, other in ((caches[0].k, caches[1].k), (caches[0].v, caches[1].v)):
        torch.testing.assert_close(mine, other, atol=1e-2, rtol=1e-2)
