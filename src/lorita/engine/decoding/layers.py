"""The linear layers of a model as the kernels of decoding take them, with their adapters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lorita.engine.activated import ActivatedVariant
from lorita.engine.decoding import ACTIVE
from lorita.engine.kernels.decode import FrozenLayer, JoinedLayers, LowRank
from lorita.engine.kernels.products import for_products
from lorita.engine.linears import is_plain_linear, weight_of
from lorita.engine.plans import Unsuited


def join(modules: Sequence[nn.Module], names: Sequence[str]) -> JoinedLayers:
    """Layers with the same input, with the adapters of these names; ``Unsuited`` if unknown."""
    layers = [_layer(module, names) for module in modules]
    if len({layer.weight.dtype for layer in layers}) > 1:
        raise Unsuited("the layers differ in dtype")
    return JoinedLayers(layers)


def _layer(module: Any, names: Sequence[str]) -> FrozenLayer:
    from peft.tuners.lora import Linear as LoraLinear

    if not isinstance(module, LoraLinear):
        return _with(module, [None] * len(names))
    layer: Any = module
    if layer.merged and not layer.disable_adapters:
        return _with(layer.get_base_layer(), [None] * len(names))
    if layer.merged:
        raise Unsuited("its adapter is merged and switched off")
    return _with(layer.get_base_layer(), [_adapter(layer, name) for name in names])


def _with(linear: Any, adapters: Sequence[LowRank | None]) -> FrozenLayer:
    if not is_plain_linear(linear) or linear.weight.dtype not in (torch.float32, torch.bfloat16):
        raise Unsuited(f"{type(linear).__name__} is not a plain linear layer")
    bias: Tensor | None = linear.bias
    return FrozenLayer(
        for_products(weight_of(linear).detach()),
        None if bias is None else bias.detach(),
        adapters,
    )


def _adapter(layer: Any, name: str) -> LowRank | None:
    if name == ACTIVE:
        active = [] if layer.disable_adapters else list(layer.active_adapters)
        active = [each for each in active if each in layer.lora_A]
        if len(active) > 1:
            raise Unsuited(f"{len(active)} active adapters, not one")
        if not active:
            return None
        (name,) = active
    if name not in layer.lora_A:
        return None
    variant = layer.lora_variant.get(name)
    plain = variant is None or isinstance(variant, ActivatedVariant)
    if not plain or getattr(layer, "lora_bias", {}).get(name):
        raise Unsuited("an adapter with a forward of its own")
    down, up = (part[name].weight.detach() for part in (layer.lora_A, layer.lora_B))
    return LowRank(down.float().contiguous(), up.float().contiguous(), float(layer.scaling[name]))
