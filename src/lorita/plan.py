"""What a run would train and weigh, from the model's ``config.json`` alone.

The model is built on torch's meta device: shapes without memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorita import adapter as adapters
from lorita.base import Base, find_base, load_config
from lorita.quiet import quiet_libraries
from lorita.settings import RunSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Plan:
    """``str()`` is what the command line prints."""

    model: str
    parameter_line: str
    targets: str
    adapter_bytes: int
    weight_bytes: dict[str, int]

    def __str__(self) -> str:
        weights = ", ".join(f"{size / 1e6:,.0f} MB in {t}" for t, size in self.weight_bytes.items())
        return "\n".join(
            [
                self.parameter_line,
                f"LoRA on: {self.targets}",
                f"Adapter on disk: {self.adapter_bytes / 1e6:.2f} MB",
                f"Base weights in memory: {weights}",
            ]
        )


def empty_model(base: Base) -> PreTrainedModel:
    """The model's modules and shapes, without weights."""
    import torch
    from transformers import AutoModelForCausalLM

    config = load_config(base)
    with quiet_libraries(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=base.trust_remote_code)
    model.requires_grad_(False)
    return model  # type: ignore[no-any-return]


def plan_run(settings: RunSettings) -> Plan:
    """Count what the settings would train. Loads no weights and reads no data."""
    base = find_base(
        settings.model,
        revision=settings.revision,
        trust_remote_code=settings.trust_remote_code,
    )
    model = empty_model(base)
    config = adapters.lora_config(model, settings.model_dump())
    total = sum(parameter.numel() for parameter in model.parameters())
    peft_model = adapters.attach(model, config, seed=settings.seed)
    trained = adapters.trainable_parameters(peft_model).values()
    targets = config.target_modules
    return Plan(
        model=settings.model,
        parameter_line=adapters.parameter_line(peft_model),
        targets=targets if isinstance(targets, str) else ", ".join(sorted(targets or [])),
        adapter_bytes=4 * sum(parameter.numel() for parameter in trained),
        weight_bytes={"bfloat16": 2 * total, "float32": 4 * total},
    )
