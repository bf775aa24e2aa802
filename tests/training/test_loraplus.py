"""LoRA+: B learns at a multiple of A's rate, as PEFT's own optimizer has it."""

from __future__ import annotations

import math

import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer

from lorita.models.adapter import trainable_parameters
from lorita.training.optimizer import make_optimizer, make_rising_schedule, make_schedule
from tests import tiny

IDS = torch.tensor([[5, 9, 2, 77, 3, 8]])


def model_of() -> torch.nn.Module:
    torch.manual_seed(0)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=2, target_modules=tiny.QKV["llama"], bias="lora_only"
    )
    return get_peft_model(tiny.make_model("llama"), config)


def test_steps_are_those_of_peft() -> None:
    found = []
    for own in (True, False):
        model = model_of()
        parameters = trainable_parameters(model)
        optimizer = (
            make_optimizer(
                parameters, learning_rate=1e-2, weight_decay=0.1, loraplus_lr_ratio=8.0
            )
            if own
            else create_loraplus_optimizer(
                model, torch.optim.AdamW, lr=1e-2, loraplus_lr_ratio=8.0,
                loraplus_weight_decay=0.1, weight_decay=0.1,
            )
        )  # fmt: skip
        for _ in range(3):
            optimizer.zero_grad()
            model(input_ids=IDS, labels=IDS).loss.backward()
            optimizer.step()
        found.append(parameters)
    for name, parameter in found[0].items():
        torch.testing.assert_close(parameter, found[1][name], rtol=1e-3, atol=1e-6, msg=name)


def test_without_it_all_rates_are_one() -> None:
    optimizer = make_optimizer(trainable_parameters(model_of()), learning_rate=1e-2)
    assert {group["lr"] for group in optimizer.param_groups} == {1e-2}


def test_schedules_keep_the_ratio() -> None:
    optimizer = make_optimizer(
        trainable_parameters(model_of()), learning_rate=1e-2, loraplus_lr_ratio=8.0
    )
    for schedule in (
        make_schedule(optimizer, "cosine", warmup_steps=2, max_steps=9),
        make_rising_schedule(optimizer, 1e-5, 1e-2, 9),
    ):
        for _ in range(4):
            optimizer.step()
            schedule.step()
            slow, *fast = (group["lr"] for group in optimizer.param_groups)
            assert fast and all(math.isclose(rate, 8 * slow) for rate in fast)
