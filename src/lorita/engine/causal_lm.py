"""The parts of a causal language model that loss and scores are computed from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lorita.engine.families import family_of


def causal_lm(model: nn.Module) -> Any:
    """The transformers model inside PEFT's wrapper; without a wrapper, the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@dataclass(frozen=True)
class Head:
    """The output head of a causal LM, and what its family does to the logits."""

    module: Any
    """A linear layer, adapted or not."""
    scale: float
    softcap: float | None

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """The model's logits [N, V] from its last hidden states, float32."""
        logits_NV: Tensor = self.module(hidden_ND).float() * self.scale
        return self.softcap * torch.tanh(logits_NV / self.softcap) if self.softcap else logits_NV


def head_of(model: nn.Module) -> Head:
    """The output head of a causal LM, with or without PEFT's wrapper; nothing is copied."""
    lm = causal_lm(model)
    config = lm.config.get_text_config()
    family = family_of(config)
    return Head(
        lm.get_output_embeddings(),
        family.logit_scale(config),
        getattr(config, family.logit_softcap, None),
    )
