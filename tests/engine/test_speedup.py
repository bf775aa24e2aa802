"""A sped-up model computes the same loss, gradients and text; and the change can be undone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from lorita.data.examples import Example
from lorita.engine.decoding.decoder import usable_decoder
from lorita.engine.kernels import native
from lorita.engine.kernels.products import use_onednn_float32
from lorita.engine.packed_model import packed_loss
from lorita.engine.speedup import speedup, unspeed
from lorita.evaluation.scores import score_rows
from tests.engine.families import CONFIGS, make
from tests.engine.steps import (
    LENGTHS,
    QUERIES,
    assert_same_step,
    gradients,
    plain_loss,
    rows,
    tuned,
)


@pytest.mark.parametrize("family", CONFIGS)
def test_same_loss_and_gradients(family: str) -> None:
    model = tuned(family)
    assert_same_step(model)
    report = speedup(model)
    assert not report.left, report
    assert report.replaced["attention"] == 2


@pytest.mark.parametrize("family", ["llama", "gemma2", "bloom", "qwen3", "gpt2"])
def test_without_a_compiler(family: str) -> None:
    with native.disabled():
        assert_same_step(tuned(family))


@pytest.mark.parametrize("family", ["llama", "bloom", "gpt2", "phi3"])
@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_trained_biases(family: str, bias: str) -> None:
    assert_same_step(tuned(family, bias=bias))


@pytest.mark.parametrize(
    "lora",
    [
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": ["k_proj", "down_proj", "gate_proj"]},
        {"layers_to_transform": [1], "target_modules": ["q_proj", "o_proj"]},
        {"use_rslora": True, "r": 4},
        {"rank_pattern": {"q_proj": 2, "v_proj": 5}, "alpha_pattern": {"k_proj": 1}},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj", "o_proj"], "use_dora": True},
    ],
    ids=str,
)
def test_kinds_of_adapters(lora: dict[str, Any]) -> None:
    model = tuned("llama", **lora)
    assert_same_step(model, 3e-5)
    if lora.get("use_dora"):
        assert any("forward of its own" in reason for reason in speedup(model).left)


@pytest.mark.parametrize("family", CONFIGS)
def test_float32_through_onednn(family: str) -> None:
    use_onednn_float32(True)
    try:
        assert_same_step(tuned(family, target_modules=QUERIES))
    finally:
        use_onednn_float32(False)


@pytest.mark.parametrize("family", ["llama", "bloom", "gemma3", "gpt2", "phi3", "falcon-new"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_is_close_and_can_be_undone(family: str, dtype: torch.dtype) -> None:
    """Every frozen layer except the head is rounded; the step stays close; undoing is exact."""
    model = tuned(family, dtype, target_modules=QUERIES)
    speedup(model)
    exact_loss = packed_loss(model, *rows(), LENGTHS)
    exact = gradients(model, exact_loss)
    report = speedup(model, base_precision="int8")
    linears = sum(
        type(m).__name__ in ("Linear", "Conv1D", "FalconLinear") and "lora_" not in n
        for n, m in model.named_modules()
        if "lm_head" not in n and not hasattr(m, "base_layer")
    )
    assert report.int8 == linears
    assert "8-bit" in str(report)
    loss = packed_loss(model, *rows(), LENGTHS)
    got = gradients(model, loss)
    assert loss != exact_loss
    assert abs(loss - exact_loss) < 0.03 * exact_loss
    difference = sum(float((got[n] - g).norm() ** 2) for n, g in exact.items()) ** 0.5
    assert difference < 0.2 * sum(float(g.norm() ** 2) for g in exact.values()) ** 0.5
    speedup(model)
    assert torch.equal(packed_loss(model, *rows(), LENGTHS), exact_loss)


@pytest.mark.parametrize("family", ["llama", "bloom", "gpt2", "phi3", "falcon-new"])
def test_int8_is_for_training_alone(family: str) -> None:
    """What is scored and written meanwhile has the numbers of the model's own weights."""
    model = tuned(family, target_modules=QUERIES).eval()
    examples = [Example([5, 9, 3, 7], [5, 9, 3, 7], 0), Example([4, 8, 8], [4, 8, 8], 1)]
    device = torch.device("cpu")
    speedup(model)
    exact = score_rows(model, examples, device)
    speedup(model, base_precision="int8")
    assert torch.equal(score_rows(model, examples, device).losses_N, exact.losses_N)
    assert usable_decoder(model) is not None


def test_unknown_precision() -> None:
    with pytest.raises(ValueError, match="int4"):
        speedup(tuned("llama"), base_precision="int4")


@pytest.mark.parametrize("family", ["llama", "bloom", "gemma3", "gpt_neox"])
def test_bf16_is_no_worse_than_plain_bf16(family: str) -> None:
    exact = tuned(family)
    expected = gradients(exact, plain_loss(exact))
    model = tuned(family, torch.bfloat16)
    rough = gradients(model, plain_loss(model))
    speedup(model)
    got = gradients(model, packed_loss(model, *rows(), LENGTHS))

    def error(grads: dict[str, torch.Tensor]) -> float:
        return sum(float((grads[n].float() - g).norm() ** 2) for n, g in expected.items()) ** 0.5

    assert error(got) <= 1.5 * error(rough)


def test_gradient_checkpointing() -> None:
    model = tuned("llama")
    model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
    model.get_base_model().enable_input_require_grads()
    assert_same_step(model)


def test_undoing_leaves_nothing_behind() -> None:
    """Names, text and logits stay the same; other models are not touched; undoing is complete."""
    model, other = tuned("llama").eval(), tuned("llama").eval()
    prompt = rows()[0][None, :6]
    names = list(model.state_dict())
    with torch.no_grad():
        logits = model(input_ids=prompt).logits
        text = model.generate(input_ids=prompt, max_new_tokens=8, do_sample=False)
        speedup(model)
        torch.testing.assert_close(model(input_ids=prompt).logits, logits, atol=1e-4, rtol=1e-4)
        again = model.generate(input_ids=prompt, max_new_tokens=8, do_sample=False)
        with model.disable_adapter():
            base = model(input_ids=prompt).logits
        assert not torch.allclose(base, logits, atol=1e-2)
        packed_loss(model, *rows(), LENGTHS)
        # A packed call has no effect on ordinary calls after it.
        torch.testing.assert_close(model(input_ids=prompt).logits, logits, atol=1e-4, rtol=1e-4)
    assert torch.equal(text, again)
    assert list(model.state_dict()) == names
    assert not any("forward" in vars(module) for module in other.modules())
    unspeed(model)
    assert not any("forward" in vars(module) for module in model.modules())
    with torch.no_grad():
        assert torch.equal(model(input_ids=prompt).logits, logits)


def test_a_misleading_class_name_is_detected() -> None:
    """A norm that does not compute what its name says is not replaced."""
    model = make("llama")
    norm = type(model.model.norm)

    class OddRMSNorm(norm):  # type: ignore[misc, valid-type]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = super().forward(x) * 3.0
            return out

    model.model.norm.__class__ = OddRMSNorm
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    report = speedup(model.train())
    assert any("it computes something else" in reason for reason in report.left)
    ids, labels = rows()
    loss = packed_loss(model, ids, labels, LENGTHS)
    torch.testing.assert_close(loss, plain_loss(model), rtol=1e-4, atol=0)


def test_dropout_runs_and_evaluation_does_not_drop() -> None:
    model = tuned("llama", lora_dropout=0.5)
    speedup(model)
    ids, labels = rows()
    torch.manual_seed(0)
    first = packed_loss(model, ids, labels, LENGTHS)
    torch.manual_seed(0)
    assert torch.equal(first, packed_loss(model, ids, labels, LENGTHS))
    assert not torch.equal(first, packed_loss(model, ids, labels, LENGTHS))
    model.eval()
    still = packed_loss(model, ids, labels, LENGTHS)
    unspeed(model)
    torch.testing.assert_close(still, plain_loss(model), rtol=1e-4, atol=0)
