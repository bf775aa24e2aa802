"""A model with an adapter, ready to train, for benchmarks that time steps in one process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lorita.engine.numerics import Numerics, choose_numerics
from lorita.engine.speedup import speedup
from lorita.models.adapter import attach, lora_config, trainable_parameters
from lorita.models.base import find_base
from lorita.models.base_weights import load_model
from lorita.training.optimizer import Masters, make_optimizer, make_schedule
from lorita.training.step import Trainee

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Ready:
    numerics: Numerics
    model: Any
    trainee: Trainee


def ready_to_train(dtype: str | None, options: dict[str, Any]) -> Ready:
    """The bundled model with an adapter of these ``options``; ``dtype`` None: as a run chooses."""
    numerics = choose_numerics(dtype or "auto")
    numerics.apply()
    model = load_model(find_base("smollm2-135m"), numerics.dtype)
    model = attach(model, lora_config(model, options), seed=0)
    speedup(model.train())
    masters = Masters(trainable_parameters(model))
    optimizer = make_optimizer(masters.parameters, learning_rate=1e-3)
    schedule = make_schedule(optimizer, "linear", warmup_steps=0, max_steps=1)
    return Ready(numerics, model, Trainee(model, masters, optimizer, schedule))
