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
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


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


def check_vocabulary(
    base: Base, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Raise ``ModelError`` if the tokenizer has ids for which the model has no embedding.

    Before any weight is read. The modules are built only if the configuration alone looks wrong.
    """
    highest = max(tokenizer.get_vocab().values())
    if highest < (getattr(config.get_text_config(), "vocab_size", None) or 0):
        return
    rows = empty_model(base).get_input_embeddings().weight.shape[0]
    if highest >= rows:
        raise ModelError(
            f"{base.name}: the tokenizer has ids up to {highest}, the model only {rows} embeddings",
            hint="The tokenizer may belong to another model, or the embeddings were not resized.",
        )
