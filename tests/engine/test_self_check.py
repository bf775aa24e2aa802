"""The self-check finds whatever the fast step computes differently from the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lorita.engine import forwards, recognise, replace
from lorita.engine.own_numbers import short_windows
from lorita.engine.packed_model import packed_loss
from lorita.engine.self_check import padding_is_harmless
from lorita.engine.speedup import speedup, unspeed
from tests.engine.own_step import adapted, difference, fast_step, loss_alone, step
from tests.engine.steps import LENGTHS, rows, tuned
from tests.zoo import build

KINDS = [
    "llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next",
    "gemma2", "gemma3", "gemma3_text", "gemma4_text", "phi", "phi3", "gpt2", "gpt_oss", "nanochat",
    "deepseek_v3", "llama4_text", "cohere2", "olmo2", "falcon_h1", "mamba", "jamba", "opt",
    "smollm3", "glm4", "granitemoehybrid", "hyperclovax",
]  # fmt: skip
"""The most used, and at least one of each build."""


@pytest.mark.parametrize("model_type", KINDS)
def test_the_fast_step_is_the_models_own(model_type: str) -> None:
    model = adapted(build(model_type))
    own = step(model, loss_alone(model))
    fast, report = fast_step(model)
    assert difference(fast, own) < 1e-3, report


def wrong(function: Any, **changes: Any) -> Any:
    """The function with some arguments replaced."""
    return lambda *args, **kwargs: function(*args, **{**kwargs, **changes})


def without_window(function: Any) -> Any:
    """Attention that ignores windows."""

    def attend(q: Any, k: Any, v: Any, layout: Any, how: Any) -> Any:
        return function(q, k, v, layout, recognise.Scores(how.scale, None, how.softcap))

    return attend


def mixing(function: Any) -> Any:
    """Attention that does not keep rows apart."""
    from lorita.engine.kernels.row_layout import RowLayout

    def attend(q: Any, k: Any, v: Any, layout: Any, how: Any) -> Any:
        whole = RowLayout((layout.num_tokens,))
        return (
            function(q, k, v, whole, how)
            if layout.num_slots == len(q)
            else function(q, k, v, layout, recognise.Scores(how.scale * 1.5))
        )

    return attend


class WrongGradient(torch.autograd.Function):
    """The identity with twice its gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return 2 * grad


FAULTS = {
    "another norm": ("rms_norm", lambda f: lambda x, w, eps, **kw: f(x, w, eps + 0.1, **kw)),
    "another activation": ("gated_activation", lambda f: lambda x, kind: f(x, "gelu_tanh")),
    "no window": ("attention", without_window),
    "rows mixed": ("attention", mixing),
    "another gradient": (
        "gated_activation",
        lambda f: lambda x, kind: WrongGradient.apply(f(x, kind)),
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    name, change = FAULTS[fault]
    model = tuned("mistral", dtype)
    assert not speedup(model).left
    unspeed(model)
    monkeypatch.setattr(forwards, name, change(getattr(forwards, name)))
    report = speedup(model)
    assert any("differ" in reason for reason in report.left), report


def test_a_fault_in_a_layer_like_those_before_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of the check go past it; one row does not."""
    model = tuned("mistral")
    wrong_one = model.get_base_model().model.layers[-1].input_layernorm.weight.data_ptr()
    own = forwards.rms_norm

    def norm(x: torch.Tensor, weight: torch.Tensor, eps: float, **kw: Any) -> torch.Tensor:
        return own(x, weight, eps + 0.1 * (weight.data_ptr() == wrong_one), **kw)

    monkeypatch.setattr(forwards, "rms_norm", norm)
    report = speedup(model)
    assert any("outputs of layers differ" in reason for reason in report.left), report


def test_layers_alike_are_computed_twice_only() -> None:
    """Once by the model and once by the fast step, however many rows there are."""
    model = tuned("mistral")
    speedup(model)  # what is computed once for a model is known from here on
    layers, calls = model.get_base_model().model.layers, [0] * 9
    for number, layer in enumerate(layers):
        attention = layer.self_attn.v_proj
        attention.register_forward_hook(
            lambda m, args, out, n=number: calls.__setitem__(n, calls[n] + 1)
        )
    unspeed(model)
    speedup(model)
    first, *others = calls[: len(layers)]
    assert first >= 5 and all(count <= 2 for count in others)


def test_positions_that_run_on_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layers would be right, but they are given something else."""
    from lorita.engine.kernels.row_layout import RowLayout

    run_on = lambda self, device: torch.arange(self.num_tokens, device=device)  # noqa: E731
    monkeypatch.setattr(RowLayout, "positions", run_on)
    report = speedup(tuned("gpt2"))
    assert not report.packs_rows
    assert "inputs of layers differ" in str(report)


@pytest.mark.parametrize("model_type", ["gpt_oss", "granite_swa", "flint"])
def test_attention_sinks_are_not_dropped(model_type: str) -> None:
    report = speedup(build(model_type))
    assert not report.packs_rows
    assert "its attention takes s_aux" in str(report)


def test_an_unknown_argument_of_attention_is_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.phimoe import modeling_phimoe

    own = modeling_phimoe.PhimoeAttention.forward
    monkeypatch.setattr(
        modeling_phimoe.PhimoeAttention,
        "forward",
        lambda self, *args, **kwargs: own(self, *args, **{**kwargs, "tilt": 0.5}),
    )
    monkeypatch.setattr(replace, "looks_like_attention", lambda module: False)
    report = speedup(build("phimoe"))
    assert "its attention takes tilt" in str(report)


def test_windows_are_short_in_the_check_only() -> None:
    model = build("mistral")
    model.config.sliding_window = 4096
    for layer in model.model.layers:
        layer.self_attn.sliding_window = 4096
    with short_windows(model) as any_windows:
        assert any_windows
        assert model.config.sliding_window < 9
    assert model.config.sliding_window == 4096
    assert speedup(model).packs_rows
    assert model.model.layers[0].self_attn.sliding_window == 4096
    ids, labels = rows()
    with torch.no_grad():
        fast = packed_loss(model, ids, labels, LENGTHS)
        torch.testing.assert_close(fast, loss_alone(model))


class Odd(nn.Module):
    """A part of a model that looks like a known one and lacks everything it has."""

    def __init__(self, own: nn.Module) -> None:
        super().__init__()
        self.own = own

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.own(*args, **kwargs)


class OddRMSNorm(Odd):
    """No weight, or one of another shape."""

    weight = torch.ones(3)


class OddAttention(Odd):
    """Projections without anything else."""

    q_proj = nn.Identity()


class OddMLP(Odd):
    """Attributes that raise."""

    down_proj = gate_proj = nn.Identity()

    @property
    def act_fn(self) -> nn.Module:
        raise LookupError("no activation here")


@pytest.mark.parametrize(
    ("path", "odd"),
    [("input_layernorm", OddRMSNorm), ("self_attn", OddAttention), ("mlp", OddMLP)],
)
def test_what_cannot_be_recognised_is_left_as_it_is(path: str, odd: type[Odd]) -> None:
    """Whatever is raised while looking at a part, the run goes on without it."""
    model = build("llama")
    for layer in model.model.layers:
        setattr(layer, path, odd(getattr(layer, path)))
    report = speedup(model)
    assert str(report).count(odd.__name__) == 1, report
    ids, labels = rows()
    with torch.no_grad():
        fast = packed_loss(model, ids, labels, LENGTHS)
        torch.testing.assert_close(fast, loss_alone(model))


@pytest.mark.parametrize("model_type", ["nanochat", "codegen", "gpt_oss"])
def test_what_is_left_is_one_line_of_the_report(model_type: str) -> None:
    report = speedup(build(model_type))
    for line in report.lines():
        assert "\n" not in line


def test_padding_that_changes_numbers_is_noticed() -> None:
    assert padding_is_harmless(build("llama"))
    assert not padding_is_harmless(build("prophetnet"))
    assert speedup(build("prophetnet")).rows == "alone"


@pytest.mark.filterwarnings("ignore:.*the call passes output_router_logits")
@pytest.mark.parametrize("model_type", ["mixtral", "qwen3_moe", "bart"])
def test_a_trainer_gets_the_models_own_loss(model_type: str) -> None:
    """With what it adds for its routers, or unshifted as in BART."""
    model = adapted(build(model_type))
    model.get_base_model().config.output_router_logits = True
    ids = rows()[0][None, :9]

    def loss() -> torch.Tensor:
        return model(input_ids=ids, labels=ids, use_cache=False).loss.detach()  # type: ignore[no-any-return]

    own = loss()
    speedup(model)
    torch.testing.assert_close(loss(), own, atol=1e-6, rtol=1e-6)
