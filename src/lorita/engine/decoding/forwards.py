"""The forwards of a twin's modules: new tokens only, the rest comes from the cache.

Two kinds of calls. In the first, whole prompts lie end to end and attend to themselves; their keys
and values are stored. In the second, each row is one token, which attends to all that is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lorita.engine.decoding.cache import Cache, shape_of
from lorita.engine.decoding.layers import ACTIVE, is_adapted, join
from lorita.engine.families import Family
from lorita.engine.forwards import pieces
from lorita.engine.kernels.attention import attention
from lorita.engine.kernels.decode import JoinedLayers, attend
from lorita.engine.kernels.head_layout import Rotation
from lorita.engine.kernels.heads import join_heads, move_heads, split_heads
from lorita.engine.kernels.ops import gated, gelu_tanh, rms_normed
from lorita.engine.kernels.row_layout import RowLayout
from lorita.engine.linears import is_plain_linear
from lorita.engine.patch import CallState
from lorita.engine.plans import AttentionPlan, GatedPlan, NormPlan, Unsuited
from lorita.engine.recognise import (
    attention_plan,
    gated_plan,
    is_gelu_tanh,
    looks_like_attention,
    looks_like_gated,
    looks_like_rms_norm,
    norm_plan,
)


@dataclass
class Call:
    """What the forwards of one model have to know of the current call."""

    cache: Cache
    slots: Sequence[int] = ()
    """Of the rows."""
    rows: RowLayout | None = None
    """The prompts; None if each row is one token."""
    slots_n: Tensor | None = None
    places_n: Tensor | None = None
    """Positions of the tokens, if each row is one."""
    adapter_n: Tensor | None = None
    """Of each token, as in ``JoinedLayers``."""
    adapter: int | None = None
    """If it is the same for all."""
    angles: CallState = field(default_factory=CallState)

    def adapters_of(self, x_nI: Tensor) -> Tensor | None:
        """The adapter of each row of an input; ``Unsuited`` if they are not the call's tokens."""
        if self.adapter_n is None or len(x_nI) == len(self.adapter_n):
            return self.adapter_n
        if self.adapter is None:
            raise Unsuited("a layer computes other rows than the tokens of the call")
        return torch.full((len(x_nI),), self.adapter)


def set_forwards(
    twin: nn.Module, family: Family, names: Sequence[str], call: Call
) -> list[tuple[int, int]]:
    """Give the modules their forwards; returns the shapes of the attention layers' caches.

    ``Unsuited`` if tokens would not find those before them. ``names`` are the adapters.
    """
    shapes: list[tuple[int, int]] = []
    done: set[nn.Module] = set()

    def joined(modules: Sequence[nn.Module]) -> JoinedLayers:
        done.update(part for module in modules for part in module.modules())
        return join(modules, names)

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
        elif module not in done and (is_adapted(module) or is_plain_linear(module)):
            suits = _try(module, lambda m: partial(_linear, joined([m]), call))
            if not suits and is_adapted(module) and list(names) != [ACTIVE]:
                raise Unsuited(f"{type(module).__name__} has one adapter for all rows")
    if not shapes:
        raise Unsuited("no attention was found")
    return shapes


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
    x_TN = plan.inputs(flat, call.adapters_of(flat))
    turn = call.angles.rotation(kwargs.get("position_embeddings"))
    mixed = _of_prompts if call.rows is not None else _of_tokens
    out = plan.output(mixed(plan, number, call, x_TN, turn)[None])
    if plan.adds_residual:
        out = out + (args[0] if args else kwargs["residual"])
    return out, None


def _of_tokens(
    plan: AttentionPlan, number: int, call: Call, x_TN: Tensor, turn: Rotation | None
) -> Tensor:
    assert call.slots_n is not None
    assert call.places_n is not None
    q, k, v = pieces(plan, x_TN)
    stored = call.cache.layers[number]
    return attend((q, k, v), plan.scores, stored, turn, call.slots_n, call.places_n)


def _of_prompts(
    plan: AttentionPlan, number: int, call: Call, x_TN: Tensor, turn: Rotation | None
) -> Tensor:
    assert call.rows is not None
    rows, stored = call.rows, call.cache.layers[number]
    of_q, of_k, of_v = pieces(plan, x_TN)
    q, k, v = (split_heads(x, (part,), rows, turn)[0] for x, part in (of_q, of_k, of_v))
    places = call.cache.places(stored.k.shape[1], call.slots, rows.lengths)
    for (x, part), to in ((of_k, stored.k), (of_v, stored.v)):
        move_heads(x.contiguous(), to.view(-1, 1, part.d), part, places, turn, inverse=False)
    return join_heads(attention(q, k, v, rows, plan.scores), rows)
