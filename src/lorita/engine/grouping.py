"""Which linear layers of a model the training step computes itself, alone or joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lorita.engine.activated import ActivatedVariant
from lorita.engine.kernels.products import quantised
from lorita.engine.linears import is_plain_linear, is_transposed
from lorita.engine.lora_linear import Group, Member
from lorita.engine.plans import Unsuited


def member(module: nn.Module) -> Member:
    """A linear layer, plain or inside PEFT's plain LoRA; else ``Unsuited``."""
    from peft.tuners.lora import Linear as LoraLinear

    if not isinstance(module, LoraLinear):
        return Member(_plain(module))
    layer: Any = module
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if len(active) != 1:
        raise Unsuited(f"{len(active)} active adapters, not one")
    (name,) = active
    variant = layer.lora_variant.get(name)
    if variant is not None and not isinstance(variant, ActivatedVariant):
        raise Unsuited(f"{type(variant).__name__} has a forward of its own")
    if getattr(layer, "lora_bias", {}).get(name):
        raise Unsuited("lora_bias is not supported")
    if not isinstance(layer.lora_dropout[name], (nn.Dropout, nn.Identity)):
        raise Unsuited("unknown kind of dropout")
    return Member(_plain(layer.get_base_layer()), layer, name)


def _plain(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.Parameter):
        raise Unsuited("its experts share one tensor")
    if not is_plain_linear(module):
        raise Unsuited(f"{type(module).__name__} is not a plain linear layer")
    weight: Any = module.weight
    if weight.requires_grad:
        raise Unsuited("its weight is trained")
    if weight.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise Unsuited(f"its weight is {weight.dtype}")
    return module


def group(modules: Sequence[nn.Module]) -> Group:
    """Layers with the same input as one product; ``Unsuited`` if they cannot be joined."""
    members = [member(module) for module in modules]
    weights: list[Any] = [m.base.weight for m in members]
    if len(members) > 1 and any(is_transposed(m.base) for m in members):
        raise Unsuited("Conv1D layers are not joined")
    if len({(weight.dtype, weight.device) for weight in weights}) > 1:
        raise Unsuited("the layers differ in dtype or device")
    if len({quantised(weight) is None for weight in weights}) > 1:
        raise Unsuited("only some of the layers are quantised")
    drops = {m.layer.lora_dropout[m.adapter].p for m in members if _drops(m)}  # type: ignore
    if len(drops) > 1:
        raise Unsuited("the layers differ in dropout")
    return Group(members)


def _drops(m: Member) -> bool:
    layer: Any = m.layer
    return layer is not None and isinstance(layer.lora_dropout[m.adapter], nn.Dropout)
