"""What ``speedup`` takes, and what it says to anything else."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel, PromptTuningConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
)

import lorita
from tests.engine.families import CONFIGS, make
from tests.engine.steps import padded, tuned


def t5() -> nn.Module:
    config = T5Config(vocab_size=97, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    return T5ForConditionalGeneration(config)


OTHERS: dict[str, tuple[Callable[[], Any], str]] = {
    "a string": (lambda: "smollm2-135m", "not 'smollm2-135m'.*from_pretrained"),
    "None": (lambda: None, "not None"),
    "a class": (lambda: PeftModel, "not the class PeftModel"),
    "a layer": (lambda: nn.Linear(2, 2), "not a Linear"),
    "an optimizer": (lambda: torch.optim.SGD(nn.Linear(2, 2).parameters()), "not an? SGD"),
    "something with a model": (lambda: SimpleNamespace(model=make("llama")), r"\(\.model\)"),
    "compiled": (lambda: torch.compile(tuned("llama"), backend="eager"), r"\(\._orig_mod\)"),
    "several devices": (lambda: nn.DataParallel(tuned("llama")), r"\(\.module\)"),
    "no head": (lambda: AutoModel.from_config(CONFIGS["llama"]()), "LlamaModel is none"),
    "another head": (
        lambda: AutoModelForSequenceClassification.from_config(CONFIGS["llama"]()),
        "LlamaForSequenceClassification is none",
    ),
    "encoder and decoder": (t5, "T5ForConditionalGeneration is none"),
}


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("function", [lorita.speedup, lorita.unspeed])
def test_anything_else_is_refused(what: str, function: Callable[[Any], Any]) -> None:
    make_it, said = OTHERS[what]
    with pytest.raises(lorita.UserError, match=f"(?s){function.__name__}.*{said}") as refused:
        function(make_it())
    assert "PEFT model or a causal language model of transformers" in str(refused.value)


def test_a_trainer_is_refused_and_its_model_taken(tmp_path: Any) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    trainer = Trainer(model=tuned("llama"), args=arguments)
    with pytest.raises(lorita.UserError, match=r"not a Trainer(?s:.*)\(\.model\)"):
        lorita.speedup(trainer)
    assert lorita.speedup(trainer.model).packs_rows


def test_a_model_without_an_adapter() -> None:
    model = make("llama").train()
    expected = float(model(**padded(), use_cache=False).loss)
    report = lorita.speedup(model)
    assert float(model(**padded(), use_cache=False).loss) == pytest.approx(expected, rel=1e-5)
    assert report.calls == {"fast": 1}


def test_a_model_that_is_sped_up_already() -> None:
    model = tuned("llama")
    expected = float(model(**padded(), use_cache=False).loss)
    first = lorita.speedup(model)
    second = lorita.speedup(model)
    assert second.replaced == first.replaced
    assert float(model(**padded(), use_cache=False).loss) == pytest.approx(expected, rel=1e-5)
    assert (first.calls, second.calls) == ({}, {"fast": 1})


def test_another_kind_of_adapter() -> None:
    """Prompt tuning passes embeddings: right, and said to be slower."""
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model = get_peft_model(make("llama"), config).train()
    expected = float(model(**padded(), use_cache=False).loss.detach())
    lorita.speedup(model)
    with pytest.warns(UserWarning, match="inputs_embeds"):
        got = model(**padded(), use_cache=False).loss
    assert float(got.detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("lora", [{}, {"use_dora": True}, {"lora_bias": True}], ids=str)
def test_the_report_counts_every_part_once(family: str, lora: dict[str, Any]) -> None:
    """With DoRA, attention was both replaced and left."""
    model = tuned(family, **lora)
    report = lorita.speedup(model)
    told = [*report.replaced.items(), *report.left.items()]
    modules = list(model.modules())
    attention = sum("Attention" in type(m).__name__ for m in modules)
    assert sum(count for what, count in told if "attention" in what.lower()) == attention, report
    layers = sum("lora_A" in dict(m.named_children()) for m in modules)
    assert sum(count for what, count in told if what.startswith("LoRA layer")) == layers, report
