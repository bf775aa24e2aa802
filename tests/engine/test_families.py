"""The records of model families: each has a tiny model, and models are matched to their record."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, PretrainedConfig
from transformers import models as m

from lorita.engine.causal_lm import head_of
from lorita.engine.families import COMMON, FAMILIES, family_of
from tests.engine.families import CONFIGS, make
from tests.engine.steps import rows

TINY = {name: family_of(config()) for name, config in CONFIGS.items()}


@pytest.mark.parametrize("record", FAMILIES)
def test_every_record_has_a_tiny_model(record: str) -> None:
    """So that every test that runs over all tiny models covers the record."""
    assert FAMILIES[record] in TINY.values()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_head_returns_the_models_logits(name: str) -> None:
    """With the scale and the soft cap of the model's own forward."""
    model = make(name)
    ids = rows()[0][None, :9]
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0]
        hidden = model.base_model(input_ids=ids, use_cache=False)[0][0]
        torch.testing.assert_close(head_of(model).logits(hidden), logits)


def test_derived_and_composite_models_have_the_record_of_their_family() -> None:
    gemma = FAMILIES["gemma"]
    assert family_of(m.gemma3.Gemma3TextConfig()) == gemma
    assert family_of(m.recurrent_gemma.RecurrentGemmaConfig()) == gemma
    assert family_of(m.paligemma.PaliGemmaConfig()) == gemma  # by its text model
    assert family_of(m.llava.LlavaConfig()) == COMMON


def test_the_longest_key_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "gemma3", COMMON)
    assert family_of(m.gemma3.Gemma3TextConfig()) == COMMON
    assert family_of(m.gemma2.Gemma2Config()) == FAMILIES["gemma"]


def test_an_unknown_family_has_the_common_build() -> None:
    class NewConfig(PretrainedConfig):  # type: ignore[misc]
        model_type = "new"

    assert family_of(NewConfig()) == COMMON
    assert family_of(AutoConfig.for_model("llama")) == COMMON
