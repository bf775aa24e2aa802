"""The forwards of a twin's modules: new tokens only, the rest comes from the cache.

The new tokens lie end to end: whole prompts, one token of each text, or anything between. Each
attends to all tokens of its own text before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lorita.engine.decoding.cache import Cache, shape_of
from lorita.engine.families import Family
from lorita.engine.kernels.decode import JoinedLayers, attend
from lorita.engine.kernels.ops import gated, gelu_tanh, rms_normed
from lorita.engine.linears import is_plain_linear
from lorita.engine.patch import CallState
from lorita.engine.plans import AttentionPlan, GatedPlan, NormPlan, Unsuited
from lorita.engine.recognise import (
    Join,
    attention_plan,
    gated_plan,
    is_gelu_tanh,
    looks_like_attention,
    looks_like_gated,
    looks_like_rms_norm,
    norm_plan,
)

_NONE = torch.empty(0, dtype=torch.long)


@dataclass
class Call:
    """What the forwards of one model have to know of the new tokens of the current call."""

    cache: Cache
    slots_T: Tensor = _NONE
    """Of the texts that they belong to."""
    places_T: Tensor = _NONE
    """Their positions in the texts."""
    adapter_T: Tensor | None = None
    """As in ``JoinedLayers``."""
    adapter: int | None = None
    """If it is the same for all."""
    angles: CallState = field(default_factory=CallState)

    def adapters_of(self, x_nI: Tensor) -> Tensor | None:
        """The adapter of each row of an input; ``Unsuited`` if they are not the call's tokens."""
        if self.adapter_T is None or len(x_nI) == len(self.adapter_T):
            return self.adapter_T
        if self.adapter is None:
            raise Unsuited("a layer computes other rows than the tokens of the call")
        return torch.full((len(x_nI),), self.adapter)


def set_forwards(
    twin: nn.Module, family: Family, join: Join, call: Call, *, one_adapter: bool
) -> list[tuple[int, int]]:
    """Give the modules their forwards; returns the shapes of the attention layers' caches.

    ``join`` makes one product of layers, with their adapters. ``one_adapter``: all rows have the
    same, so that an adapted layer may keep a forward of its own. ``Unsuited`` if tokens would not
    find those before them.
    """
    shapes: list[tuple[int, int]] = []
    done: set[nn.Module] = set()

    def joined(modules: Sequence[nn.Module]) -> JoinedLayers:
        done.update(part for module in modules for part in module.modules())
        return join(modules)  # type: ignore[no-any-return]

    for module in list(twin.modules()):
        if looks_like_attention(module):
            plan = attention_plan(module, family, joined)
            module.forward = partial(_attention, plan, len(shapes), call)
            shapes.append(shape_of(plan.parts[1]))
        elif looks_like_gated(module):
            _try(module, lambda m: partial(_gated, gated_plan(m, joined), call))
        elif looks_like_rms_norm(module):
            _try(module, lambda m: partial(_norm, m.weight.detach(), norm_plan(m)))
        elif is_gelu_tanh(module):
            module.forward = gelu_tanh
        elif module not in done and (_is_adapted(module) or is_plain_linear(module)):
            suits = _try(module, lambda m: partial(_linear, joined([m]), call))
            if not (suits or one_adapter) and _is_adapted(module):
                raise Unsuited(f"{type(module).__name__} has one adapter for all rows")
    if not shapes:
        raise Unsuited("no attention was found")
    return shapes


def _is_adapted(module: nn.Module) -> bool:
    from peft.tuners.lora import LoraLayer

    return isinstance(module, LoraLayer)


def _try(module: Any, forward_of: Callable[[Any], Any]) -> bool:
    """Set the forward, unless the module is not what it looks like: then its own stays."""
    try:
        module.forward = forward_of(module)
    except Exception:  # whatever an unknown module lacks
        return False
    return True


def _linear(layers: JoinedLayers, call: Call, x: Tensor) -> Tensor:
    flat = x.reshape(-1, x.shape[-1])
    return layers(flat, call.adapters_of(flat)).view(*x.shape[:-1], -1)


def _norm(weight: Tensor, plan: NormPlan, x: Tensor) -> Tensor:
    return rms_normed(x, weight, plan.eps, plus_one=plan.plus_one)[0]


def _gated(plan: GatedPlan, call: Call, x: Tensor) -> Tensor:
    flat = x.reshape(-1, x.shape[-1])
    inner = gated(plan.inputs(flat, call.adapters_of(flat)), plan.kind)
    return plan.output(inner.view(*x.shape[:-1], -1))  # type: ignore[no-any-return]


def _attention(
    plan: AttentionPlan, number: int, call: Call, hidden_states: Tensor, *args: Any, **kwargs: Any
) -> Any:
    flat = hidden_states[0]
    x_TN, gates = plan.without_gates(plan.inputs(flat, call.adapters_of(flat)))
    turn = call.angles.rotation(kwargs.get("position_embeddings"))
    q, k, v = plan.pieces(x_TN)
    stored = call.cache.layers[number]
    out = attend((q, k, v), plan.scores, stored, turn, call.slots_T, call.places_T)
    out = plan.output((out if gates is None else out * gates.sigmoid())[None])
    if plan.adds_residual:
        out = out + (args[0] if args else kwargs["residual"])
    return out, None
