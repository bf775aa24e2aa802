"""What ``speedup`` was given: a model that it takes, or one sentence that says what to give it."""

from __future__ import annotations

from typing import Any

from torch import nn

from lorita.engine.causal_lm import causal_lm
from lorita.errors import ModelError

_TAKES = "takes a PEFT model or a causal language model of transformers"
_INSIDE = ("_orig_mod", "module", "model")
"""Attributes in which torch.compile, wrappers for several devices, trainers and pipelines keep the
model that they were given."""


def speedable(given: Any, function: str = "speedup") -> Any:
    """The causal LM of transformers in ``given``, without PEFT's wrapper.

    ``ModelError``, which names the ``function``, if it is anything else or wrapped by another
    library.
    """
    lm = causal_lm(given) if isinstance(given, nn.Module) and not _is_wrapper(given) else None
    if lm is None or not _is_pretrained(lm):
        raise ModelError(f"{function}() {_TAKES}, not {_named(given)}", hint=_hint(given))
    if getattr(lm.config, "is_encoder_decoder", False) or not _has_logits(lm):
        raise ModelError(
            f"{function}() {_TAKES}; {type(lm).__name__} is none",
            hint="It needs logits for the next token: a class such as LlamaForCausalLM.",
        )
    return lm


def _is_pretrained(module: Any) -> bool:
    from transformers import PreTrainedModel

    return isinstance(module, PreTrainedModel)


def _is_wrapper(module: nn.Module) -> bool:
    """Whether another library keeps the model inside: PEFT's wrapper is known, theirs is not."""
    return not _is_pretrained(module) and any(
        isinstance(vars(module).get("_modules", {}).get(name), nn.Module)
        for name in ("_orig_mod", "module")
    )


def _has_logits(lm: Any) -> bool:
    return bool(lm.can_generate()) or lm.get_output_embeddings() is not None


def _named(given: Any) -> str:
    if given is None or isinstance(given, str):
        return repr(given)
    if isinstance(given, type):
        return f"the class {given.__name__}"
    name = type(given).__name__
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _hint(given: Any) -> str:
    if isinstance(given, str):
        return "Load it first: AutoModelForCausalLM.from_pretrained(...), then get_peft_model(...)."
    for name in _INSIDE:
        if isinstance(getattr(given, name, None), nn.Module):
            return f"Give it the model inside (.{name}), best before it is wrapped."
    return "One comes from get_peft_model(...) or AutoModelForCausalLM.from_pretrained(...)."
