"""A base model as shapes without memory: its modules on torch's meta device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorita.errors import ModelError
from lorita.models.base import Base, load_config
from lorita.models.language_part import build, left_out_names
from lorita.models.reach import text_reach
from lorita.storage.reading import one_message
from lorita.system.quiet import quiet_libraries

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def empty_model(base: Base) -> PreTrainedModel:
    """The model's modules and shapes, made from its ``config.json`` alone."""
    import torch

    config = load_config(base)
    problem = f"{base.name}: no model can be built of its configuration"
    with one_message(problem, ModelError), quiet_libraries(), torch.device("meta"):
        model = build(config, trust_remote_code=base.trust_remote_code)
    model.requires_grad_(False)
    if left_out_names(model) and text_reach(model, ()) is None:
        raise ModelError(
            f"{base.name}: {type(model).__name__} does not compute text without its other parts",
            hint="Use a model for text alone.",
        )
    return model
