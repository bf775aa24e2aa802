"""The HF Trainer and TRL's SFTTrainer with a sped-up model: the same scripts, the same result."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import lorita
from lorita.data.batches import MicroBatch
from lorita.data.examples import Example
from lorita.data.tokens.tokenize import tokenize_texts
from lorita.engine import model_forwards, packed_model
from lorita.engine.packed_model import is_sped_up
from lorita.errors import LoritaWarning
from tests import tiny


def peft_model() -> PeftModel:
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(tiny.make_model("llama"), config)


@pytest.fixture
def packed_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of every call that was computed over packed rows."""
    calls: list[int] = []
    original = packed_model.hidden_states

    def counting(lm: Any, patch: Any, ids: Any, rows: Any, *more: Any) -> Any:
        calls.append(len(rows.lengths))
        return original(lm, patch, ids, rows, *more)

    for module in (packed_model, model_forwards):
        monkeypatch.setattr(module, "hidden_states", counting)
    return calls


def arguments(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "learning_rate": 1e-2,
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "seed": 3,
        **more,
    }


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def assert_same_adapters(one: PeftModel, other: PeftModel) -> None:
    expected = {n: p for n, p in other.named_parameters() if p.requires_grad}
    for name, parameter in one.named_parameters():
        if parameter.requires_grad:
            distance = (parameter - expected[name]).norm() / expected[name].norm()
            assert distance < 1e-3, name


def test_hf_trainer(tmp_path: Path, packed_calls: list[int]) -> None:
    examples = tokenize_texts(tiny.make_texts(40), tiny.make_tokenizer(), max_length=64).examples

    def collate(batch: list[dict[str, Example]]) -> dict[str, torch.Tensor]:
        return MicroBatch([item["row"] for item in batch]).padded(0, torch.device("cpu"))

    def run(model: PeftModel) -> list[float]:
        rows = [{"row": example} for example in examples]
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                **arguments(tmp_path, remove_unused_columns=False, eval_strategy="steps",
                            eval_steps=2, label_names=["labels"])
            ),
            train_dataset=rows,
            eval_dataset=rows[:4],
            data_collator=collate,
        )  # fmt: skip
        trainer.train()
        evaluated = [e["eval_loss"] for e in trainer.state.log_history if "eval_loss" in e]
        assert len(evaluated) == 2
        return losses(trainer) + evaluated

    plain, fast = peft_model(), peft_model()
    expected = run(plain)
    assert not packed_calls
    lorita.speedup(fast)
    assert run(fast) == pytest.approx(expected, abs=1e-4)
    assert packed_calls.count(4) == 8
    lorita.unspeed(fast)
    assert_same_adapters(fast, plain)


@pytest.mark.parametrize("padding_free", [False, True])
def test_trl_sft_trainer(tmp_path: Path, packed_calls: list[int], padding_free: bool) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    def run(model: PeftModel) -> list[float]:
        config = trl.SFTConfig(
            **arguments(tmp_path, max_length=64, bf16=False, gradient_checkpointing=False)
        )
        trainer = trl.SFTTrainer(
            model=model,
            args=config,
            train_dataset=Dataset.from_dict({"text": tiny.make_texts(40)}),
            processing_class=with_padding(),
        )
        if padding_free:
            trainer.data_collator.padding_free = True
        trainer.train()
        return losses(trainer)

    plain, fast = peft_model(), peft_model()
    expected = run(plain)
    lorita.speedup(fast)
    assert run(fast) == pytest.approx(expected, abs=1e-4)
    assert packed_calls.count(4) == 8
    lorita.unspeed(fast)
    assert_same_adapters(fast, plain)


def by_default(folder: Path, **more: Any) -> dict[str, Any]:
    """What a newcomer sets, and what keeps a test short; all else is the trainer's default."""
    return {
        "output_dir": str(folder),
        "max_steps": 3,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "logging_steps": 1,
        "save_strategy": "no",
        **more,
    }


DEFAULTS: dict[str, dict[str, Any]] = {
    "as they are": {},
    "bf16": {"bf16": True},
    "gradient checkpointing": {"gradient_checkpointing": True, "bf16": True},
    "label smoothing": {"label_smoothing_factor": 0.1},
    "compiled": {"torch_compile": True, "torch_compile_backend": "eager"},
}


def assert_same_but_fast(run: Any, *, fp32: bool, warned: str | None = None) -> None:
    """``run`` trains a model and returns its losses: with and without ``speedup``."""
    expected = run(peft_model())
    fast = peft_model()
    report = lorita.speedup(fast)
    with pytest.warns(LoritaWarning, match=warned) if warned else nullcontext():
        assert run(fast) == pytest.approx(expected, abs=1e-4 if fp32 else 2e-2)
    assert report.calls == {"fast": 3}, report


@pytest.mark.parametrize("options", DEFAULTS.values(), ids=DEFAULTS)
def test_hf_trainer_by_its_defaults(tmp_path: Path, options: dict[str, Any]) -> None:
    tokenizer = with_padding()
    rows = [{"input_ids": ids} for ids in tokenizer(tiny.make_texts(40))["input_ids"]]
    uncompiled = {name: value for name, value in options.items() if "compile" not in name}

    def run(model: PeftModel) -> list[float]:
        chosen = options if is_sped_up(model) else uncompiled  # compiling it takes half a minute
        trainer = Trainer(
            model=model,
            args=TrainingArguments(**by_default(tmp_path, **chosen)),
            train_dataset=rows,
            data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        )
        trainer.train()
        return losses(trainer)

    warned = "torch.compile" if "torch_compile" in options else None
    assert_same_but_fast(run, fp32="bf16" not in options, warned=warned)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"packing": True, "max_length": 64},
        {"loss_type": "dft"},
        {"padding_free": True, "max_length": None},
    ],
    ids=str,
)
def test_trl_sft_trainer_by_its_defaults(tmp_path: Path, options: dict[str, Any]) -> None:
    """bf16 and gradient checkpointing are on: neither losses nor time differed, nor was it said."""
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    config = trl.SFTConfig(**by_default(tmp_path, **options))
    assert config.bf16 and config.gradient_checkpointing

    def run(model: PeftModel) -> list[float]:
        trainer = trl.SFTTrainer(
            model=model,
            args=config,
            train_dataset=Dataset.from_dict({"text": tiny.make_texts(40)}),
            processing_class=with_padding(),
        )
        trainer.train()
        return losses(trainer)

    assert_same_but_fast(run, fp32=False)


def with_padding() -> Any:
    tokenizer = tiny.make_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
