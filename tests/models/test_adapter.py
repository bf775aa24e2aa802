"""Adapters: default targets, and removing one restores the base bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from transformers.pytorch_utils import Conv1D

from lorita.errors import AdapterError
from lorita.models.adapter import attach, lora_config, take_off, trainable_parameters, untouched
from tests import tiny


@pytest.mark.parametrize(
    "options",
    [
        {"bias": "all"},
        {"bias": "lora_only", "use_dora": True},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["norm", "embed_tokens"]},
    ],
)
def test_the_base_comes_back(options: dict[str, Any]) -> None:
    model = tiny.make_model("llama")
    first = {name: p.detach().clone() for name, p in model.named_parameters()}
    kept = untouched(model)
    config = lora_config(model, {"r": 2, "target_modules": ["q_proj"], **options})
    peft_model = attach(model, config, seed=1)
    for parameter in trainable_parameters(peft_model).values():
        parameter.data.normal_()
    base = take_off(peft_model, kept)
    now = dict(base.named_parameters())
    assert now.keys() == first.keys()
    assert all(torch.equal(now[name], p) for name, p in first.items())
    assert base.lm_head.weight is base.model.embed_tokens.weight or "lm_head.weight" in now


@pytest.mark.parametrize("family", ["llama", "bloom", "gpt2"])
@pytest.mark.parametrize("layers", [None, [1]])
def test_without_targets_every_linear_layer_but_the_head(
    family: str, layers: list[int] | None
) -> None:
    """Only in the chosen layers, if any are chosen."""
    model = tiny.make_model(family)
    linear = {
        name
        for name, module in model.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D)) and "lm_head" not in name
    }
    if layers is not None:
        linear = {name for name in linear if ".1." in name}
    peft_model = attach(model, lora_config(model, {"r": 2, "layers_to_transform": layers}), seed=1)
    found = {n for n, m in peft_model.get_base_model().named_modules() if isinstance(m, LoraLayer)}
    assert found == linear


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), ValueError("no"), RuntimeError("no")])
def test_a_base_is_whole_after_an_adapter_that_could_not_be_put_on(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException
) -> None:
    """PEFT is stopped at its third layer: the first two must not stay wrapped."""
    from peft.tuners.lora import LoraModel

    model = tiny.make_model("llama")
    before = {name: type(module) for name, module in model.named_modules()}
    own, count = LoraModel._create_and_replace, [0]

    def stop_at_the_third(*args: Any, **options: Any) -> None:
        count[0] += 1
        if count[0] == 3:
            raise raised
        own(*args, **options)

    monkeypatch.setattr(LoraModel, "_create_and_replace", stop_at_the_third)
    with pytest.raises((AdapterError, KeyboardInterrupt, RuntimeError)):
        attach(model, lora_config(model, {"r": 2}), seed=0)
    monkeypatch.undo()
    assert {name: type(module) for name, module in model.named_modules()} == before
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert attach(model, lora_config(model, {"r": 2}), seed=0)


def test_only_lora_options_are_accepted() -> None:
    """A misspelled option must not train with the default instead."""
    model = tiny.make_model("llama")
    with pytest.raises(TypeError, match="not LoRA options: rank, seed; use r, lora_alpha, "):
        lora_config(model, {"r": 2, "rank": 4, "seed": 1})
    config = lora_config(model, {"lora_alpha": 8.0, "r": 2, "use_dora": None})
    assert (config.r, config.lora_alpha, config.use_dora) == (2, 8, False)
    assert isinstance(config.lora_alpha, int)
