"""Walk through a model and set the fast forward of every part that is recognised."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch

from lorita.engine import forwards
from lorita.engine.families import Family, family_of
from lorita.engine.kernels.int8 import Int8Weight
from lorita.engine.kernels.ops import gelu_tanh
from lorita.engine.kernels.row_layout import current_layout
from lorita.engine.linears import is_plain_linear, weight_of
from lorita.engine.patch import INTERFACE, Patch
from lorita.engine.recognise import (
    Unsuited,
    attention_plan,
    gated_plan,
    group,
    is_gelu_tanh,
    is_rms_norm,
    looks_like_attention,
    looks_like_gated,
    norm_eps,
)


@dataclass(frozen=True)
class Replacements:
    """The forwards that were set, and how many modules were replaced or left as they are."""

    patch: Patch = field(default_factory=Patch)
    replaced: Counter[str] = field(default_factory=Counter)
    """By kind."""
    left: Counter[str] = field(default_factory=Counter)
    """By reason."""


def replacements(lm: Any, without: tuple[str, ...], *, liger: bool = False) -> Replacements:
    """Set the fast forwards on a causal LM, except of the kinds in ``without``.

    Kinds are ``attention``, ``mlp``, ``norm`` and ``activation``. ``liger`` takes norms and gated
    activations from liger-kernel.
    """
    out = Replacements()
    family = family_of(lm.config)
    for module in list(lm.modules()):
        try:
            kind = _replace(module, family, out.patch, without, liger)
        except Unsuited as reason:
            out.left[f"{type(module).__name__}: {reason}"] += 1
        else:
            out.replaced.update([kind] if kind else [])
    _replace_linears(lm, out)
    attentions = sum(looks_like_attention(module) for module in lm.modules())
    planned = out.replaced["attention"]
    out.patch.packs_rows = planned == attentions > 0
    if not out.patch.packs_rows and "norm" not in without and _has_interface(lm):
        register_interface()
        out.patch.use_interface(lm)
        out.patch.packs_rows = True
        out.replaced["attention (through transformers' interface)"] += attentions - planned
    return out


def _replace(
    module: Any, family: Family, patch: Patch, without: tuple[str, ...], liger: bool
) -> str | None:
    """Set the forward of one module; returns its kind for the report, None if not replaced."""
    original = module.forward
    if looks_like_attention(module):
        if "attention" in without:
            return None
        plan = attention_plan(module, family)
        patch.put(module, forwards.attention_forward(plan, patch.state, original))
        patch.groups.append(plan.inputs)
        return "attention"
    if looks_like_gated(module) and "mlp" not in without:
        gated = gated_plan(module)
        patch.put(module, forwards.gated_forward(gated, original, liger=liger))
        patch.groups.append(gated.inputs)
        return "gated MLP"
    if is_rms_norm(module) and "norm" not in without:
        eps = norm_eps(module) or 0.0
        patch.put(module, forwards.norm_forward(module, eps, family, original, liger=liger))
        return "norm"
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
            except Unsuited as reason:
                out.left[f"LoRA layer: {reason}"] += 1
        elif isinstance(module, LoraLayer):
            out.replaced["LoRA layer (joined with others of the same input)"] += 1
    for module in _frozen_linears(lm):
        if module.weight.dtype == torch.float32 and module.weight.device.type == "cpu":
            out.patch.put(module, forwards.linear_forward(module, module.forward))


def _frozen_linears(lm: Any) -> list[Any]:
    """Plain linear layers without an adapter, except the output head."""
    from peft.tuners.lora import LoraLayer

    head = lm.get_output_embeddings()
    inside = {m for layer in lm.modules() if isinstance(layer, LoraLayer) for m in layer.modules()}
    return [
        module
        for module in lm.modules()
        if is_plain_linear(module)
        and module is not head
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
    for module in alone:
        # Over the forward for float32, if there is one: the original is the class's own.
        original = type(module).forward.__get__(module)
        rounded = Int8Weight.of(weight_of(module))
        patch.put(module, forwards.linear_forward(module, original, rounded))
    return len(joined) + len(alone)


def register_interface() -> None:
    """Register the engine's attention with transformers, under the name ``INTERFACE``."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    def mask(*args: Any, **kwargs: Any) -> Any:
        # Packed rows need no mask: the attention function keeps them apart.
        return None if current_layout() is not None else sdpa_mask(*args, **kwargs)

    AttentionInterface.register(INTERFACE, forwards.interface_attention)
    AttentionMaskInterface.register(INTERFACE, mask)


def _has_interface(lm: Any) -> bool:
    """Whether the model takes its attention function from transformers' registry."""
    return bool(getattr(lm, "_supports_attention_backend", False))
