"""The logits are the model's own, whatever it does after its last hidden states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from lorita.data.examples import Example
from lorita.engine.causal_lm import body_of, head_of, looks_ahead
from lorita.engine.heads import Head, LinearHead, OwnHead, WholeModel
from lorita.engine.speedup import speedup
from lorita.evaluation.scores import score_rows
from tests.engine.steps import rows
from tests.zoo import build

CPU = torch.device("cpu")
LINEAR = {
    "llama": (1.0, None),
    "falcon_h1": (0.25, None),  # lm_head_multiplier
    "hyperclovax": (0.25, None),  # logits_scaling, which it multiplies by
    "granite": (0.25, None),  # the same name, which it divides by
    "minicpm3": (8.0, None),  # from two sizes
    "gemma2": (1.0, 3.0),
    "nanochat": (1.0, 15.0),
    "opt": (1.0, None),  # its body is the decoder inside its base model
    "llama4_text": (1.0, None),  # its base model has another name
}
OTHERS = {"bert": OwnHead, "modernbert-decoder": OwnHead, "prophetnet": WholeModel}


@pytest.mark.parametrize("model_type", [*LINEAR, *OTHERS])
def test_logits_are_the_models_own(model_type: str) -> None:
    model = build(model_type)
    head = head_of(model)
    if model_type in LINEAR:
        assert isinstance(head, LinearHead)
        assert (head.scale, head.softcap) == LINEAR[model_type]
    else:
        assert type(head) is OTHERS[model_type]
    ids = rows()[0][None, :9]
    with torch.no_grad():
        own = model(input_ids=ids, use_cache=False).logits[0]
        hidden = body_of(model)(input_ids=ids, use_cache=False)[0][0]
        torch.testing.assert_close(head.logits(hidden), own, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(head.copy().logits(hidden), own, atol=1e-5, rtol=1e-5)
        assert head.vocabulary == own.shape[-1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("model_type", ["falcon_h1", "gemma2", "cohere", "hyperclovax"])
def test_scales_are_exact_in_narrow_formats(model_type: str, dtype: torch.dtype) -> None:
    """A scale is a number of the config, not what could be measured in 8 bits."""
    exact, narrow = head_of(build(model_type)), head_of(build(model_type, dtype))
    assert isinstance(exact, LinearHead) and isinstance(narrow, LinearHead)
    assert (narrow.scale, narrow.softcap) == (exact.scale, exact.softcap)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("model_type", ["falcon_h1", "hyperclovax", "bert", "prophetnet"])
def test_scores_are_those_of_the_models_loss(model_type: str, fast: bool) -> None:
    """So held-out loss and proof are, too."""
    model = build(model_type)
    row = rows()[0][:9]
    with torch.no_grad():
        logits = model(input_ids=row[None], use_cache=False).logits[0, :-1]
        own = torch.nn.functional.cross_entropy(logits, row[1:], reduction="none")
    if fast:
        speedup(model)
    example = Example(row.tolist(), row.tolist(), 1)
    found = score_rows(model, [example, example], CPU)
    torch.testing.assert_close(found.losses_N, own.repeat(2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model_type", ["llama", "bert"])
def test_a_copy_keeps_the_adapter_that_is_taken_off(model_type: str) -> None:
    model = build(model_type)
    target = "lm_head" if model_type == "llama" else "cls.predictions.transform.dense"
    tuned = get_peft_model(model, LoraConfig(target_modules=[target], init_lora_weights=False))
    hidden = torch.randn(3, 32)
    head: Head = head_of(tuned)
    kept = head.copy()
    with torch.no_grad():
        before = head.logits(hidden)
        tuned.unload()
        torch.testing.assert_close(kept.logits(hidden), before)
        assert not torch.allclose(head_of(tuned).logits(hidden), before, atol=1e-3)


def test_a_model_that_sees_what_it_should_predict_is_noticed() -> None:
    assert not looks_ahead(build("llama"))
    assert not looks_ahead(build("mamba"))
    assert looks_ahead(build("cpmant"))
    assert looks_ahead(build("xlnet"))
    encoder = build("bert")
    encoder.config.is_decoder = False
    assert looks_ahead(type(encoder)(encoder.config))


ODD_LOGITS = {
    "a number in the code": lambda z: z * 0.37,
    "a cap in the code": lambda z: 7.0 * torch.tanh(z / 7.0),
    "a bias over the vocabulary": lambda z: z + torch.linspace(-1, 1, z.shape[-1]),
    "normed": lambda z: z / z.norm(dim=-1, keepdim=True),
    "clamped": lambda z: z.clamp(-2, 2),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("odd", ODD_LOGITS)
def test_whatever_a_model_does_to_its_logits(odd: str, dtype: torch.dtype) -> None:
    """Settings of a name that nobody has heard of, or none at all."""
    model = build("llama", dtype)
    own_forward = type(model).forward

    class Odd(type(model)):  # type: ignore[misc]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            out = own_forward(self, *args, **{**kwargs, "labels": None})
            out.logits = ODD_LOGITS[odd](out.logits)
            return out

    model.__class__ = Odd
    row = rows()[0][:9]
    with torch.no_grad():
        logits = model(input_ids=row[None], use_cache=False).logits[0, :-1].float()
        own = torch.nn.functional.cross_entropy(logits, row[1:], reduction="none")
    speedup(model)
    found = score_rows(model, [Example(row.tolist(), row.tolist(), 1)], CPU)
    near = 1e-5 if dtype == torch.float32 else 5e-2
    torch.testing.assert_close(found.losses_N, own, atol=near, rtol=near)
