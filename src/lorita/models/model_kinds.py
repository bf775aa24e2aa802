"""Which kinds of models continue a text, by transformers' own lists."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lorita.errors import ModelError
from lorita.models.language_part import reads_images

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def require_causal(name: str, config: PretrainedConfig) -> None:
    """Raise ``ModelError`` that names the kind, unless ``config`` is of a causal language model."""
    kind = _other_kind(config)
    if kind is None:
        return
    architectures = list(getattr(config, "architectures", None) or [])
    what = config.model_type + (f" ({', '.join(architectures)})" if architectures else "")
    raise ModelError(
        f"{name}: {what} is {kind}, not a causal language model",
        hint="lorita trains models that continue a text, such as Llama, Qwen, Gemma, BLOOM "
        "or GPT-2, but not encoders (BERT) or encoder-decoders (T5).",
    )


def _other_kind(config: PretrainedConfig) -> str | None:
    """What a model is instead of a causal language model; None if it is one."""
    # Its package hides the module where there is no torch; its lists need none.
    auto = import_module("transformers.models.auto.modeling_auto")
    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        return "an encoder-decoder model"
    # BERT and its relatives can be built as decoders, and are listed as such, but are trained to
    # fill gaps: without is_decoder they attend to what comes after.
    if kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        return "an encoder"
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or remote or reads_images(config):
        return None
    if kind in auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return "an image-text model without a language model as a part of its own"
    return "another kind of model"
