"""Walk through a model and set the fast forward of every part that is recognised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from lorita.engine import forwards
from lorita.engine.causal_lm import body_of
from lorita.engine.families import Family, drops_attention, family_of
from lorita.engine.grouping import group
from lorita.engine.kernels.int8 import Int8Weight
from lorita.engine.kernels.ops import gelu_tanh
from lorita.engine.kernels.products import quantised
from lorita.engine.linears import is_plain_linear, weight_of
from lorita.engine.mixers import looks_like_mixer, mixer_forward
from lorita.engine.patch import INTERFACE, Patch
from lorita.engine.plans import Unsuited
from lorita.engine.recognise import (
    attention_plan,
    gated_plan,
    is_gelu_tanh,
    looks_like_attention,
    looks_like_gated,
    looks_like_rms_norm,
    norm_plan,
)
from lorita.engine.token_rows import token_rows, token_rows_forward

MIXER = "recurrent layer (its own code, rows side by side)"


@dataclass(frozen=True)
class Replacements:
    """The forwards that were set, and how many modules were replaced or left as they are."""

    patch: Patch = field(default_factory=Patch)
    replaced: Counter[str] = field(default_factory=Counter)
    """By kind."""
    left: Counter[str] = field(default_factory=Counter)
    """By reason."""
    without: Sequence[str] = ()
    """The kinds that were not to be replaced."""


def replacements(lm: Any, without: Sequence[str] = (), *, liger: bool = False) -> Replacements:
    """Set the fast forwards on a causal LM, except of the kinds in ``without``.

    Kinds are ``attention``, ``packing``, ``mlp``, ``norm``, ``activation`` and ``linear``.
    ``liger`` takes norms and gated activations from liger-kernel.
    """
    out = Replacements(without=without)
    family = family_of(lm.config)
    for module in list(lm.modules()):
        try:
            kind = _replace(module, family, out.patch, without, liger)
        except Exception as reason:  # whatever an unknown module lacks
            out.left[f"{type(module).__name__}: {_said(reason)}"] += 1
        else:
            out.replaced.update([kind] if kind else [])
    if "linear" not in without:
        _replace_linears(lm, out)
    if "packing" not in without and body_of(lm) is not lm:
        _pack_rows(lm, out)
    return out


def _said(reason: Exception) -> str:
    text = str(reason).strip().partition("\n")[0]
    if isinstance(reason, Unsuited):
        return text
    return f"its structure is unknown ({type(reason).__name__}: {text})"


def _pack_rows(lm: Any, out: Replacements) -> None:
    """Lay rows end to end, if every layer that mixes tokens can keep them apart."""
    attentions = [type(m).__name__ for m in lm.modules() if looks_like_attention(m)]
    planned = out.replaced["attention"]
    if planned == len(attentions) and planned + out.replaced[MIXER] > 0:
        out.patch.rows = "packed"
    elif getattr(lm, "_supports_attention_backend", False) and not drops_attention(lm.config):
        register_interface()
        out.patch.use_interface(lm)
        out.patch.rows = "packed"
        others = len(attentions) - planned
        for reason in [r for r in out.left if r.partition(":")[0] in attentions]:
            count = out.left.pop(reason)
            out.replaced[f"attention (through transformers' interface; {reason})"] = count
            others -= count
        if others:
            out.replaced["attention (through transformers' interface)"] = others
    else:
        out.replaced.pop(MIXER, None)  # rows are not packed: it gets them as before


def _replace(
    module: Any, family: Family, patch: Patch, without: Sequence[str], liger: bool
) -> str | None:
    """Set the forward of one module; returns its kind for the report, None if not replaced."""
    original = module.forward
    if looks_like_attention(module):
        if "attention" in without:
            return None
        plan = attention_plan(module, family, group)
        patch.put(module, forwards.attention_forward(plan, patch.state, original))
        patch.groups.append(plan.inputs)
        return "attention"
    if looks_like_mixer(module) and "packing" not in without:
        patch.put(module, mixer_forward(patch.state, module.forward))
        return MIXER
    if looks_like_gated(module) and "mlp" not in without:
        gated = gated_plan(module, group)
        patch.put(module, forwards.gated_forward(gated, original, liger=liger))
        patch.groups.append(gated.inputs)
        return "gated MLP"
    if looks_like_rms_norm(module) and "norm" not in without:
        how = norm_plan(module)
        casting = family.liger_casting if liger else None
        patch.put(module, forwards.norm_forward(module, how, original, casting))
        return "norm"
    if token_rows(module) is not None and not hasattr(module, "token_adapter"):
        patch.put(module, token_rows_forward(module, original))
        return "rows of single tokens"
    if is_gelu_tanh(module) and "activation" not in without:
        patch.put(module, gelu_tanh)
        return "activation"
    return None


def _replace_linears(lm: Any, out: Replacements) -> None:
    """Set the forwards of LoRA layers that are in no group, and of frozen float32 layers."""
    from peft.tuners.lora import LoraLayer

    grouped = {m.layer for known in out.patch.groups for m in known.members if m.layer is not None}
    for module in lm.modules():
        if isinstance(module, LoraLayer) and module not in grouped:
            try:
                single = group([module])
                out.patch.put(module, forwards.lora_forward(single, module.forward))
                out.patch.groups.append(single)
                out.replaced["LoRA layer"] += 1
            except Exception as reason:
                out.left[f"LoRA layer: {_said(reason)}"] += 1
        elif isinstance(module, LoraLayer):
            out.replaced["LoRA layer (joined with others of the same input)"] += 1
    for module in _frozen_linears(lm):
        if quantised(module.weight) is not None:
            continue  # its products are the engine's own already
        if module.weight.dtype == torch.float32 and module.weight.device.type == "cpu":
            out.patch.put(module, forwards.linear_forward(module, module.forward))


def _frozen_linears(lm: Any) -> list[Any]:
    """Plain linear layers without an adapter, except the output head."""
    from peft.tuners.lora import LoraLayer

    head = lm.get_output_embeddings()
    of_head = {*head.modules()} if head is not None else set()
    inside = {m for layer in lm.modules() if isinstance(layer, LoraLayer) for m in layer.modules()}
    return [
        module
        for module in lm.modules()
        if is_plain_linear(module)
        and module not in of_head
        and module not in inside
        and not module.weight.requires_grad
    ]


def use_int8(lm: Any, patch: Patch) -> int:
    """Compute the products of the frozen layers, except the head, in 8-bit integers.

    Returns the number of layers.
    """
    joined = {member.base for known in patch.groups for member in known.members}
    for known in patch.groups:
        known.use_int8()
    alone = [module for module in _frozen_linears(lm) if module not in joined]
    if any(quantised(module.weight) is not None for module in alone):
        raise ValueError("base_precision = 'int8': the weights are quantised blocks already")
    for module in alone:
        # Over the forward for float32, if there is one: the original is the class's own.
        original = type(module).forward.__get__(module)
        rounded = Int8Weight.of(weight_of(module))
        patch.put(module, forwards.linear_forward(module, original, rounded))
    return len(joined) + len(alone)


def register_interface() -> None:
    """Register the engine's attention with transformers, under the name ``INTERFACE``."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    def mask(*args: Any, **kwargs: Any) -> None:
        """None: the attention function keeps packed rows apart, and there is no padding."""

    AttentionInterface.register(INTERFACE, forwards.interface_attention)
    AttentionMaskInterface.register(INTERFACE, mask)
