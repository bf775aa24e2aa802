"""Every fast operation against its plain twin: values and gradients, compiled and not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lorita.engine.kernels import loss, native, reference
from lorita.engine.kernels.attention import attention
from lorita.engine.kernels.dropout import add_kept, drop
from lorita.engine.kernels.heads import Part, Rotation, join_heads, split_heads
from lorita.engine.kernels.int8 import Int8Weight
from lorita.engine.kernels.loss import cross_entropy_sum
from lorita.engine.kernels.ops import (
    column_sums,
    frozen_linear,
    gated_activation,
    gelu_tanh,
    rms_norm,
    use_onednn_float32,
)
from lorita.engine.kernels.row_layout import RowLayout
from lorita.engine.kernels.score_rule import Scores
from lorita.engine.lora_linear import Group, Member

DTYPES = [torch.float32, torch.bfloat16]
LENGTHS = [(5,), (1,), (3, 1, 40, 17, 36, 15), (700, 1, 20, 18)]


@pytest.fixture(params=["native", "torch"], autouse=True)
def backend(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "native" and native.kernel("rms_norm", torch.zeros(1)) is None:
        pytest.skip(native.status())
    with native.disabled() if request.param == "torch" else nullcontext():
        yield


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * scale


def check(
    fast: Callable[..., Tensor],
    plain: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    dtype: torch.dtype,
    grads: int | None = None,
) -> None:
    """``fast`` in ``dtype`` against ``plain`` in float64, value and gradients of the first inputs.

    float32: 1e-5 of the largest value. bf16: no more error than 1.5 times that of the plain
    computation in bf16, on the same (rounded) inputs.
    """
    rounded = [x.to(dtype) for x in inputs]
    exact = _run(plain, [x.double() for x in rounded], grads)
    mine = _run(fast, rounded, grads)
    naive = _run(plain, rounded, grads)
    for true, got, rough in zip(exact, mine, naive, strict=True):
        error = (got.double() - true).norm() / true.norm().clamp_min(1e-12)
        if dtype == torch.float32:
            assert error < 1e-5
        else:
            allowed = (rough.double() - true).norm() / true.norm().clamp_min(1e-12)
            assert error <= 1.5 * allowed + 1e-4


def _run(function: Callable[..., Tensor], inputs: list[Tensor], grads: int | None) -> list[Tensor]:
    count = len(inputs) if grads is None else grads
    leaves = [x.clone().requires_grad_(i < count) for i, x in enumerate(inputs)]
    out = function(*leaves)
    direction = random(*out.shape, seed=9).to(out.dtype) if out.ndim else torch.ones_like(out)
    return [out.detach(), *torch.autograd.grad(out, leaves[:count], direction)]


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
@pytest.mark.parametrize("f", [4, 3])
def test_heads_and_rotary(dtype: torch.dtype, f: int) -> None:
    """Two key/value heads with three query heads each, side by side in one row."""
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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(
    "how",
    [{}, {"window": 6}, {"softcap": 2.0}, {"alibi": True}, {"window": 530, "alibi": True}],
    ids=str,
)
@pytest.mark.parametrize("d", [8, 16, 80])  # the compiled kernel takes multiples of 16
def test_attention(
    d: int, dtype: torch.dtype, lengths: tuple[int, ...], how: dict[str, Any]
) -> None:
    kv, group, tokens = 2, 3, sum(lengths)
    slopes = torch.tensor([2.0**-i for i in range(1, 7)]) if how.get("alibi") else None
    given = {name: how[name] for name in ("window", "softcap") if name in how}

    def fast(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        rows = RowLayout(lengths)
        slots = [
            split_heads(t.flatten(1), (Part(0, kv * n, n, n * d, d),), rows)[0]
            for t, n in ((q, group), (k, 1), (v, 1))
        ]
        out = attention(*slots, rows, Scores(0.3, alibi_slopes=slopes, **given))
        return join_heads(out, rows).view(tokens, kv * group, d)

    check(
        fast,
        lambda q, k, v: reference.attention(
            q, k, v, lengths, scale=0.3, alibi_slopes=slopes, **given
        ),
        [random(tokens, kv * group, d), random(tokens, kv, d), random(tokens, kv, d, seed=3)],
        dtype,
    )


@pytest.mark.parametrize("lengths", [(330,), (40,) * 6])
def test_attention_with_more_and_fewer_threads(lengths: tuple[int, ...]) -> None:
    def run() -> list[Tensor]:
        q, k, v = (random(sum(lengths) * 2, n, 32, seed=n).float() for n in (3, 1, 1))
        inputs = [t.requires_grad_() for t in (q, k, v)]
        out = attention(*inputs, RowLayout(lengths), Scores(0.2))
        return [out, *torch.autograd.grad(out.square().sum(), inputs)]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = run()
        for threads in (2, 7):
            torch.set_num_threads(threads)
            for mine, theirs in zip(run(), alone, strict=True):
                assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_attention_does_not_hide_what_is_not_finite(dtype: torch.dtype, bad: float) -> None:
    lengths = (70, 3)
    q, k, v = (torch.ones(sum(lengths), 1, 16, dtype=dtype) for _ in range(3))
    q[10] = bad
    out = attention(q, k, v, RowLayout(lengths), Scores(0.25))
    assert out[10].isnan().all()
    assert out.isnan().sum() == 16


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
    with torch.inference_mode():  # a measurement comes before training, as in a run
        cross_entropy_sum(random(50, 16).bfloat16(), weight, torch.zeros(50, dtype=torch.long))
    first = gradient(small)
    alone = first.clone()
    memory = loss._kept.buffer.data_ptr()
    gradient(large)
    assert torch.equal(first, alone)  # a later call does not write into an earlier one's gradient
    waiting = small.clone().requires_grad_()
    total = cross_entropy_sum(waiting, weight, targets[:7])
    gradient(large)
    total.backward()
    assert waiting.grad is not None
    assert torch.equal(waiting.grad, alone)  # nor into what its backward pass still needs
    assert loss._kept.buffer.data_ptr() == memory
    with ThreadPoolExecutor(4) as threads:
        assert all(torch.equal(g, alone) for g in threads.map(gradient, [small] * 16))


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


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_keeps_its_share_everywhere(dtype: torch.dtype) -> None:
    mask, kept = drop(torch.ones(1000, 1001, dtype=dtype), 0.25)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    mask = mask.flatten().float()
    assert abs(float(mask.mean()) - 0.75) < 0.003
    for lane in range(4):  # where four numbers share one draw, none is drawn otherwise
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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("tokens", "width"), [(1, 1), (37, 130), (300, 64)])
def test_column_sums(dtype: torch.dtype, tokens: int, width: int) -> None:
    x = random(tokens, width + 3).to(dtype)[:, 2 : width + 2]
    assert torch.allclose(
        column_sums(x).double(), reference.column_sums(x.double()), rtol=1e-5, atol=1e-5
    )


def test_dropout_scales_drops_and_stops_in_evaluation() -> None:
    group, layers = group_of(torch.float32, drop=0.5)
    x = random(4, 10).float()
    torch.manual_seed(0)
    draws = torch.stack([group(x) for _ in range(4000)])
    for layer in layers:
        layer.eval()
    assert torch.equal(group(x), group(x))
    assert (draws.mean(0) - group(x)).abs().max() < 0.06 * group(x).abs().max()


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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tokens", [1, 2, 37, 300])
def test_int8_products(dtype: torch.dtype, tokens: int) -> None:
    """Both directions against the same rounding in float64; a row of zeros stays one."""
    weight, x, grad = (random(*shape).to(dtype) for shape in ((24, 40), (tokens, 40), (tokens, 24)))
    weight[3] *= 50  # scales that differ between rows
    x[0] = 0
    narrow = Int8Weight.of(weight)
    exact = reference.int8_linear(x.double(), weight.double())
    back = reference.int8_linear_back(grad.double(), weight.double())
    rounding = 1e-3 if dtype == torch.float32 else 4e-3  # a tie may fall the other way
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
