"""A sped-up model computes what the model computes: loss, gradients, text; and can be undone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn import functional

from lorita.engine.kernels import native
from lorita.engine.kernels.ops import use_onednn_float32
from lorita.engine.speedup import packed_loss, speedup, unspeed
from tests.engine.families import FAMILIES, VOCAB, make

LENGTHS = (9, 1, 4, 13)
QUERIES = ["q_proj", "query_key_value", "c_attn", "qkv_proj"]


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels of the rows end to end; some labels are no targets."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, VOCAB, (sum(LENGTHS),), generator=generator)
    labels = ids.clone()
    labels[2:5] = -100
    return ids, labels


def padded() -> dict[str, torch.Tensor]:
    ids, labels = rows()
    width = max(LENGTHS)
    batch = {
        "input_ids": torch.zeros(len(LENGTHS), width, dtype=torch.long),
        "attention_mask": torch.zeros(len(LENGTHS), width, dtype=torch.long),
        "labels": torch.full((len(LENGTHS), width), -100),
    }
    start = 0
    for i, length in enumerate(LENGTHS):
        batch["input_ids"][i, :length] = ids[start : start + length]
        batch["labels"][i, :length] = labels[start : start + length]
        batch["attention_mask"][i, :length] = 1
        start += length
    return batch


def tuned(family: str, dtype: torch.dtype = torch.float32, **lora: Any) -> PeftModel:
    """The family with an adapter whose B is not zero, in training mode."""
    options: dict[str, Any] = {"r": 3, "lora_alpha": 6, "target_modules": "all-linear"}
    config = LoraConfig(task_type="CAUSAL_LM", **{**options, **lora})
    model = get_peft_model(make(family, dtype), config)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return model.train()


def plain_loss(model: PeftModel) -> torch.Tensor:
    batch = padded()
    labels = batch.pop("labels")
    logits = model(**batch, use_cache=False).logits
    return functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), reduction="sum"
    )


def gradients(model: PeftModel, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    return {n: g for n, g in zip(trained, grads, strict=True) if g is not None}


def assert_same_step(model: PeftModel, tolerance: float = 1e-5) -> None:
    """Loss and every gradient, fast against plain."""
    unspeed(model)
    expected_loss = plain_loss(model)
    expected = gradients(model, expected_loss)
    report = speedup(model)
    assert report.packs_rows, report
    loss = packed_loss(model, *rows(), LENGTHS)
    got = gradients(model, loss)
    assert abs(loss - expected_loss) <= tolerance * abs(expected_loss)
    assert got.keys() == expected.keys()
    largest = max(float(gradient.norm()) for gradient in expected.values())
    for name, gradient in expected.items():
        distance = float((got[name] - gradient).norm())
        # Some gradients are zero but for rounding (a bias that softmax does not see).
        assert distance <= 3 * tolerance * max(float(gradient.norm()), 1e-2 * largest), name


@pytest.mark.parametrize("family", FAMILIES)
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


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_through_onednn(family: str) -> None:
    use_onednn_float32(True)
    try:
        assert_same_step(tuned(family, target_modules=QUERIES))
    finally:
        use_onednn_float32(False)


@pytest.mark.parametrize("family", ["llama", "bloom", "gemma3", "gpt2", "phi3", "falcon-new"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_is_near_and_can_be_undone(family: str, dtype: torch.dtype) -> None:
    """Every frozen layer but the head is rounded; the step stays close; nothing of it is left."""
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


def test_undone_and_unnoticed_elsewhere() -> None:
    """Names, text and evaluation stay; other instances are not touched; undoing leaves nothing."""
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
        # After a packed call, an ordinary one is ordinary again.
        torch.testing.assert_close(model(input_ids=prompt).logits, logits, atol=1e-4, rtol=1e-4)
    assert torch.equal(text, again)
    assert list(model.state_dict()) == names
    assert not any("forward" in vars(module) for module in other.modules())
    unspeed(model)
    assert not any("forward" in vars(module) for module in model.modules())
    with torch.no_grad():
        assert torch.equal(model(input_ids=prompt).logits, logits)


def test_a_family_that_lies_about_itself_is_left_alone() -> None:
    """A norm that is not what its name says is found by the check, not by the name."""
    model = make("llama")
    norm = type(model.model.norm)

    class OddRMSNorm(norm):  # type: ignore[misc, valid-type]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = super().forward(x) * 3.0
            return out

    model.model.norm.__class__ = OddRMSNorm
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    report = speedup(model.train())
    assert any("checked on this model" in reason for reason in report.left)
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
