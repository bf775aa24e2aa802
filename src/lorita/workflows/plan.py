"""What a run would train, and how much disk, memory and time it would take.

Parameters and sizes come from the model's ``config.json`` alone: the model is built on torch's meta
device, as shapes without memory. If there is data, a few steps on it are timed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lorita.errors import ModelError
from lorita.models import adapter as adapters
from lorita.models.base import Base, load_config
from lorita.runs.asked import asked_base
from lorita.runs.loaded_base import load_base
from lorita.runs.prepare import prepare
from lorita.runs.run_model import adapter_on
from lorita.runs.training_job import TrainingJob
from lorita.settings.facts import lora_options
from lorita.settings.file_wishes import as_typed
from lorita.settings.schema import RunSettings
from lorita.storage.reading import one_message
from lorita.system.quiet import quiet_libraries
from lorita.training.forecast import Forecast, Work

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
    work: Work | None = None
    forecast: Forecast | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        weights = ", ".join(f"{size / 1e6:,.0f} MB in {t}" for t, size in self.weight_bytes.items())
        return "\n".join(
            [
                self.parameter_line,
                f"LoRA on: {self.targets}",
                *self.notes,
                f"Adapter on disk: {self.adapter_bytes / 1e6:.2f} MB",
                f"Base weights in memory: {weights}",
                *([self.work.line()] if self.work else []),
                *(self.forecast.lines() if self.forecast else []),
                *(f"Warning: {text}" for text in self.warnings),
            ]
        )


def empty_model(base: Base) -> PreTrainedModel:
    """The model's modules and shapes, without weights."""
    import torch
    from transformers import AutoModelForCausalLM

    config = load_config(base)
    problem = f"{base.name}: no model can be built of its configuration"
    with one_message(problem, ModelError), quiet_libraries(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=base.trust_remote_code)
    model.requires_grad_(False)
    return model  # type: ignore[no-any-return]


def plan_run(settings: RunSettings, *, data: bool = False) -> Plan:
    """Count what the settings would train; with ``data``, also forecast memory and time.

    Nothing is written. Without ``data``, no weights are loaded and ``settings.data`` is not read.
    """
    base = asked_base(settings)
    model = empty_model(base)
    config, notes = adapters.plan_adapter(model, lora_options(settings))
    total = sum(parameter.numel() for parameter in model.parameters())
    peft_model = adapters.attach(model, config, seed=settings.seed)
    trained = adapters.trainable_parameters(peft_model).values()
    plan = Plan(
        model=settings.model,
        parameter_line=adapters.parameter_line(peft_model),
        targets=adapters.target_line(config),
        adapter_bytes=4 * sum(parameter.numel() for parameter in trained),
        weight_bytes={"bfloat16": 2 * total, "float32": 4 * total},
        notes=notes,
    )
    return _with_data(plan, settings) if data else plan


def _with_data(plan: Plan, settings: RunSettings) -> Plan:
    anew = {"resume": False, "resume_from_checkpoint": None}
    prepared = prepare(as_typed(settings, **anew, push_to_hub=False), writes=False)
    base = load_base(settings, prepared)
    with adapter_on(base, settings, prepared) as attached:
        job = TrainingJob(settings, prepared, attached)
        warnings = (*prepared.data.warnings, *job.advice(), *job.too_large())
        forecast = job.probe() if settings.probe else job.forecast()
        return replace(plan, work=job.work, forecast=forecast, warnings=warnings)
