"""lorita's loop equals PEFT with the HF Trainer: same losses, same adapters, same files."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, PeftModel, get_peft_model
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments

from lorita.data.batches import MicroBatch, iterate_steps
from lorita.data.examples import Example
from lorita.data.tokens.tokenize import tokenize_texts
from lorita.models.adapter import adapter_tensors, save_adapter, trainable_parameters
from lorita.models.load_adapter import load_adapter
from lorita.training.events import StepDone
from lorita.training.loop import Pace, train
from lorita.training.objective import padded_loss
from lorita.training.optimizer import Masters, make_optimizer, make_schedule
from lorita.training.step import Trainee
from tests import tiny

STEPS, ROWS, RATE = 10, 4, 1e-2


class RecordingTrainer(Trainer):
    """The HF Trainer with its rows in the given order; it records the loss of every step."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.losses: list[float] = []

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        self.losses.append(float(loss.detach()))
        return loss


def peft_model(family: str, bias: str) -> PeftModel:
    torch.manual_seed(1)
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=tiny.QKV[family], bias=bias, task_type="CAUSAL_LM"
    )
    model = tiny.make_model(family)
    # The name of the loss tells the HF Trainer that labels are shifted. GPT-2 has no such name, and
    # the Trainer would count one target too many per row.
    model.loss_type = "ForCausalLM"
    return get_peft_model(model, config)


def ours(model: PeftModel, examples: list[Example]) -> list[float]:
    masters = Masters(trainable_parameters(model))
    optimizer = make_optimizer(masters.parameters, learning_rate=RATE)
    schedule = make_schedule(optimizer, "linear", warmup_steps=0, max_steps=STEPS)
    trainee = Trainee(model, masters, optimizer, schedule)
    pace = Pace(max_steps=STEPS, rows_per_step=ROWS, token_budget=10_000)
    loss_sum = padded_loss(model, pad_id=0, device=torch.device("cpu"))
    events = train(trainee, examples, loss_sum, pace, accelerator=Accelerator(cpu=True))
    return [event.loss for event in events if isinstance(event, StepDone)]


def theirs(model: PeftModel, examples: list[Example], folder: Path) -> list[float]:
    steps = iterate_steps(examples, rows_per_step=ROWS, seed=42)
    rows = [row for _ in range(STEPS) for row in next(steps)]
    arguments = TrainingArguments(
        output_dir=str(folder),
        learning_rate=RATE,
        max_steps=STEPS,
        per_device_train_batch_size=ROWS,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="no",
    )

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return MicroBatch([item["example"] for item in batch]).padded(0, torch.device("cpu"))

    trainer = RecordingTrainer(
        model=model,
        args=arguments,
        train_dataset=[{"example": row} for row in rows],
        data_collator=collate,
    )
    arguments.remove_unused_columns = False
    trainer.train()
    return trainer.losses


@pytest.mark.parametrize("bias", ["none", "all", "lora_only"])
@pytest.mark.parametrize("family", ["llama", "bloom", "gpt2"])
def test_losses_adapters_and_files_agree(family: str, bias: str, tmp_path: Path) -> None:
    examples = tokenize_texts(tiny.make_texts(20), tiny.make_tokenizer(), max_length=128).examples
    mine = peft_model(family, bias)
    other = copy.deepcopy(mine)
    start = {name: tensor.clone() for name, tensor in adapter_tensors(mine).items()}

    torch.testing.assert_close(
        ours(mine, examples), theirs(other, examples, tmp_path / "hf"), atol=1e-4, rtol=0
    )

    trained, expected = adapter_tensors(mine), adapter_tensors(other)
    assert trained.keys() == expected.keys()
    assert any(name.endswith("bias") for name in trained) == (bias != "none")
    for name, tensor in trained.items():
        assert not torch.equal(tensor, start[name]), f"{name} was not trained"
        distance = (tensor - expected[name]).norm() / expected[name].norm()
        assert distance < 1e-3, name

    # Our loader and plain PEFT both restore what was trained, biases included.
    (tmp_path / "adapter").mkdir()
    save_adapter(mine, tmp_path / "adapter")
    ids = torch.tensor([examples[0].input_ids])
    mine.eval()
    with torch.no_grad():
        logits = mine(input_ids=ids).logits
        for load in (load_adapter, PeftModel.from_pretrained):
            reloaded = load(tiny.make_model(family), tmp_path / "adapter")
            assert torch.equal(reloaded.eval()(input_ids=ids).logits, logits)
