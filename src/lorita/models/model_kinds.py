"""Which kinds of models continue a text, by transformers' own lists."""

from __future__ import annotations

import difflib
import re
from importlib import import_module
from importlib.metadata import version
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


def refuse_unknown_kind(name: str, said: str, cause: Exception) -> None:
    """Raise ``ModelError`` if ``said`` is how transformers says that it lacks a kind of models."""
    found = re.search(r"model type `(.+?)` but Transformers does not recognize", said)
    in_gguf = re.search(r"GGUF model with architecture (\S+) is not supported", said)
    match = found or in_gguf
    if match is None:
        return
    kind = match.group(1)
    names = import_module("transformers.models.auto.configuration_auto").CONFIG_MAPPING_NAMES
    near = difflib.get_close_matches(kind, names, n=1, cutoff=0.75)
    what = (
        "does not read GGUF files of the architecture" if in_gguf else "has no models of the type"
    )
    hints = [f"The nearest that it has is {near[0]}."] if near else []
    hints.append(
        "Use the model's folder in Hugging Face format."
        if in_gguf
        else "A newer version may have it: pip install --upgrade transformers."
    )
    raise ModelError(
        f"{name}: transformers {version('transformers')} {what} {kind!r}", hint=" ".join(hints)
    ) from cause


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
