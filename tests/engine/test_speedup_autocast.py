"""A sped-up model under autocast: products in its number format, by the fast step."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from peft import PeftModel

from lorita.engine import lora_linear
from lorita.engine.report import SpeedupReport
from lorita.engine.speedup import speedup, unspeed
from lorita.errors import LoritaWarning
from tests.engine.families import CONFIGS
from tests.engine.steps import gradients, padded, rows, tuned

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
Step = tuple[float, dict[str, torch.Tensor]]


def step(model: PeftModel, dtype: torch.dtype | None = BF16) -> Step:
    """Loss and gradients of a training call, as a trainer makes it."""
    with torch.autocast("cpu", dtype=dtype or BF16, enabled=dtype is not None):
        loss = model(**padded(), use_cache=False).loss
    return float(loss), gradients(model, loss)


def distance(got: Step, expected: Step) -> float:
    """Of the gradients, relative to their size."""
    apart = sum(float((got[1][n].float() - g.float()).norm() ** 2) for n, g in expected[1].items())
    return float((apart / sum(float(g.float().norm() ** 2) for g in expected[1].values())) ** 0.5)


def assert_as_good(fast: Step, own: Step, exact: Step, dtype: torch.dtype) -> None:
    """The fast step is as near to the exact one as the model's own under autocast."""
    eps = torch.finfo(dtype).eps
    assert abs(fast[0] - exact[0]) < 2 * eps * exact[0]
    assert distance(fast, exact) < max(3 * distance(own, exact), 2 * eps)


def all_fast(report: SpeedupReport, calls: int) -> bool:
    """Whether the fast step ran in all of so many training calls."""
    return report.calls["fast"] == calls and not report.calls["own"]


@pytest.fixture
def formats(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The number formats of all products of joined layers."""
    seen: list[torch.dtype] = []
    product = lora_linear.product

    def noting(x: torch.Tensor, weight: Any, *more: Any) -> torch.Tensor:
        seen.append(x.dtype)
        return product(x, weight, *more)

    monkeypatch.setattr(lora_linear, "product", noting)
    return seen


@pytest.mark.parametrize("family", CONFIGS)
def test_every_family(family: str, formats: list[torch.dtype]) -> None:
    model = tuned(family)
    exact, own = step(model, None), step(model)
    report = speedup(model)
    formats.clear()
    fast = step(model)
    assert all_fast(report, 1)
    assert set(formats) == {BF16}
    assert_as_good(fast, own, exact, BF16)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "phi3"])
@pytest.mark.parametrize(("weights", "to"), [(BF16, BF16), (F32, F16), (BF16, F16), (F16, BF16)])
def test_every_pair_of_formats(
    family: str, weights: torch.dtype, to: torch.dtype, formats: list[torch.dtype]
) -> None:
    model = tuned(family, weights)
    exact, own = step(copy.deepcopy(model).float(), None), step(model, to)
    report = speedup(model)
    formats.clear()
    fast = step(model, to)
    assert all_fast(report, 1)
    assert set(formats) == {to}
    assert_as_good(fast, own, exact, max(weights, to, key=lambda dtype: torch.finfo(dtype).eps))


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(reentrant: bool) -> None:
    model = tuned("llama")
    report = speedup(model)
    expected = step(model)
    model.get_base_model().gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.get_base_model().enable_input_require_grads()
    loss, _ = got = step_by_backward(model)
    assert loss == expected[0]
    assert distance(got, expected) < 1e-6
    assert all_fast(report, 2)


def step_by_backward(model: PeftModel) -> Step:
    """As ``step``; reentrant checkpoints only work with ``backward``."""
    with torch.autocast("cpu", dtype=BF16):
        loss = model(**padded(), use_cache=False).loss
    loss.backward()
    return float(loss), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def test_autocast_that_is_off_again_changes_nothing() -> None:
    model = tuned("llama")
    speedup(model)
    expected = step(model, None)
    with torch.autocast("cpu", dtype=BF16):
        loss, grads = step(model, None)
    assert loss == expected[0]
    assert distance((loss, grads), expected) == 0


def test_sped_up_under_autocast() -> None:
    """The check of the numbers is not disturbed by it."""
    model = tuned("llama")
    with torch.autocast("cpu", dtype=BF16):
        report = speedup(model)
    assert not report.left and report.packs_rows
    assert all_fast(report, 0)


@pytest.mark.parametrize("weights", [F32, BF16])
def test_evaluation_and_generation(weights: torch.dtype) -> None:
    model = tuned("llama", weights).eval()
    prompt = rows()[0][None, :6]

    def made() -> tuple[torch.Tensor, torch.Tensor, float]:
        with torch.no_grad(), torch.autocast("cpu", dtype=BF16):
            text = model.generate(input_ids=prompt, max_new_tokens=8, do_sample=False)
            return model(input_ids=prompt).logits, text, float(model(**padded()).loss)

    logits, text, loss = made()
    report = speedup(model)
    fast_logits, fast_text, fast_loss = made()
    assert (fast_logits - logits).norm() < 2e-2 * logits.norm()
    assert fast_text.shape == text.shape
    assert fast_loss == pytest.approx(loss, rel=1e-2)
    assert not report.calls  # none of these is a training call


def test_int8_under_autocast() -> None:
    model = tuned("llama")
    exact = step(model, None)
    report = speedup(model, base_precision="int8")
    assert distance(step(model), exact) < 0.2
    assert all_fast(report, 1)


@pytest.mark.parametrize("options", [{}, {"base_precision": "int8"}], ids=["float32", "int8"])
def test_weights_that_change_later_are_seen(options: dict[str, Any]) -> None:
    """Copies in another format are not what the model was, but what it is."""
    model, other = tuned("llama"), tuned("llama")
    for name, parameter in other.named_parameters():
        if "base_layer" in name:
            parameter.data = parameter.data * 1.5
    speedup(model, **options), speedup(other, **options)
    step(model)
    model.load_state_dict(other.state_dict())
    assert step(model)[0] == pytest.approx(step(other)[0], rel=1e-3)


@pytest.mark.parametrize("options", [{}, {"base_precision": "int8"}], ids=["float32", "int8"])
@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("dtype", [None, BF16])
def test_merged_adapters(options: dict[str, Any], safe: bool, dtype: torch.dtype | None) -> None:
    model = tuned("llama")
    exact, batch = step(model, None)[0], padded()
    speedup(model, **options)
    unmerged = step(model, dtype)[0]
    model.merge_adapter(safe_merge=safe)
    with torch.no_grad(), torch.autocast("cpu", dtype=BF16, enabled=dtype is not None):
        assert float(model(**batch, use_cache=False).loss) == pytest.approx(exact, rel=2e-2)
    model.unmerge_adapter()
    assert step(model, dtype)[0] == pytest.approx(unmerged, rel=1e-2)


UNKNOWN: dict[str, dict[str, Any]] = {
    "gaps": {"attention_mask": torch.tensor([[1, 1, 0, 1, 1]] * 2)},
    "output_hidden_states": {"output_hidden_states": True},
    "inputs_embeds": {"input_ids": None, "inputs_embeds": torch.ones(2, 5, 32)},
    "more than one line": {"attention_mask": None, "position_ids": torch.arange(5).expand(2, 5)},
}


@pytest.mark.parametrize("dtype", [None, BF16])
@pytest.mark.parametrize("what", UNKNOWN)
def test_other_training_calls_are_right_and_said_once(what: str, dtype: Any) -> None:
    model = tuned("llama")
    ids = rows()[0][:10].view(2, 5)
    call = {
        "input_ids": ids,
        "labels": ids,
        "attention_mask": torch.ones_like(ids),
        **UNKNOWN[what],
    }

    def loss() -> float:
        with torch.autocast("cpu", dtype=BF16, enabled=dtype is not None):
            return float(model(**call, use_cache=False).loss)

    expected = loss()
    report = speedup(model)
    with pytest.warns(LoritaWarning, match=what):
        assert loss() == pytest.approx(expected, rel=1e-2 if dtype else 1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LoritaWarning)
        loss()
    assert report.calls == {"own": 2}
    assert "2 by the model's own forward" in str(report)


def test_arguments_by_position() -> None:
    model = tuned("llama").get_base_model()
    batch = padded()
    expected = float(model(**batch).loss)
    report = speedup(model)
    got = model(
        batch["input_ids"], batch["attention_mask"], labels=batch["labels"], use_cache=False
    )
    assert float(got.loss) == pytest.approx(expected, rel=1e-5)
    assert all_fast(report, 1)


def test_a_forward_that_others_wrapped_is_undone_all_the_same() -> None:
    """accelerate and TRL keep the forward that they found, and call it for ever after."""
    model = tuned("llama")
    expected = step(model, None)[0]
    first = speedup(model)
    lm = model.get_base_model()
    found = lm.forward
    lm.forward = lambda *args, **kwargs: found(*args, **kwargs)
    unspeed(model)
    assert step(model, None)[0] == pytest.approx(expected, rel=1e-5)
    second = speedup(model)
    assert step(model, None)[0] == pytest.approx(expected, rel=1e-5)
    assert not first.calls
    assert all_fast(second, 1)


@pytest.mark.parametrize("first", ["speedup", "compile", "in place"])
def test_compiled_models(first: str) -> None:
    model = tuned("llama")
    expected = step(model, None)
    compiled: Any = model
    if first == "compile":
        compiled = torch.compile(model, backend="eager")
    report = speedup(model)
    if first == "speedup":
        compiled = torch.compile(model, backend="eager")
    elif first == "in place":
        model.compile(backend="eager")
    with pytest.warns(LoritaWarning, match="torch.compile has no effect"):
        loss = compiled(**padded(), use_cache=False).loss
    got = float(loss), gradients(model, loss)
    assert distance(got, expected) < 1e-4
    assert all_fast(report, 1)
