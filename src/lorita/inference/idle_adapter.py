"""Prompts on which an activated LoRA does not act, because its invocation is not in them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lorita.errors import LoritaWarning

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def warn_of_idle(
    model: Any, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]]
) -> None:
    """A ``LoritaWarning`` if the model's activated adapter does not act on some of these prompts.

    The base answers them. Nothing is said while the adapter is switched off.
    """
    from lorita.engine.activated import activation_of, invocation_start

    activation = activation_of(model)
    if activation is None:
        return
    layers = [m for m in model.modules() if getattr(m, "lora_variant", None)]
    if all(layer.disable_adapters for layer in layers):
        return
    for invocation in activation.invocations.values():
        idle = sum(invocation_start(row, invocation) is None for row in rows)
        if idle:
            text = tokenizer.decode(list(invocation))
            what = "the prompt does" if len(rows) == 1 else f"{idle} of {len(rows)} prompts do"
            warnings.warn(
                f"{what} not hold {text!r}, the invocation of this activated LoRA: the base "
                "answers without it",
                LoritaWarning,
                stacklevel=3,
            )
