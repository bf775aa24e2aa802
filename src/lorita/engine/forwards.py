"""The forwards that take the place of transformers' and PEFT's own, on single module instances.

Each falls back to the module's original forward in every call that is not of the kind it is for:
generation with a cache, autocast, an adapter that was switched off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lorita.engine.kernels.attention import attention
from lorita.engine.kernels.gpu import (
    liger_gated_activation,
    liger_rms_norm,
    takes_variable_lengths,
    variable_length_attention,
)
from lorita.engine.kernels.heads import Part, Rotation, flat_heads, join_heads, split_heads
from lorita.engine.kernels.int8 import Int8Weight
from lorita.engine.kernels.ops import frozen_linear, gated_activation, rms_norm
from lorita.engine.kernels.row_layout import RowLayout
from lorita.engine.kernels.score_rule import Scores
from lorita.engine.lora_linear import Group
from lorita.engine.recognise import AttentionPlan, GatedPlan, weight_of

Forward = Callable[..., Any]


@dataclass
class State:
    """What the forwards of one model share.

    ``layout`` is that of the last call and stays until the next: gradient checkpointing computes
    layers again in the backward pass, after the call has returned.
    """

    layout: RowLayout | None = None
    _angles: tuple[Tensor, Rotation] | None = None

    def rows_of(self, hidden: Tensor) -> RowLayout | None:
        """The rows that ``hidden`` [1, T, D] holds end to end; None in an ordinary call."""
        rows = self.layout
        if rows is None or hidden.shape[0] != 1 or hidden.shape[1] != rows.num_tokens:
            return None
        return rows

    def rotation(self, embeddings: tuple[Tensor, Tensor] | None) -> Rotation | None:
        """cos and sin [T, f] in float32 from transformers' [1, T, 2·f], whose halves are equal."""
        if embeddings is None:
            return None
        cos, sin = embeddings
        if self._angles is None or self._angles[0] is not cos:
            f = cos.shape[-1] // 2
            halves = (t[0, :, :f].float().contiguous() for t in (cos, sin))
            self._angles = (cos, Rotation(*halves))
        return self._angles[1]


def under_autocast(x: Tensor) -> bool:
    return bool(torch.is_autocast_enabled(x.device.type))


def attention_forward(plan: AttentionPlan, state: State, original: Forward) -> Forward:
    """An attention module's forward over rows that lie end to end."""

    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        rows = state.rows_of(hidden_states)
        if rows is None or under_autocast(hidden_states):
            return original(hidden_states, *args, **kwargs)
        x_TN = plan.inputs(hidden_states[0])
        turn = state.rotation(kwargs.get("position_embeddings"))
        out = plan.output(_mixed(plan, x_TN, rows, turn)[None])
        if plan.dropout:
            out = functional.dropout(out, plan.dropout, plan.output.training)
        if plan.adds_residual:
            out = out + (args[0] if args else kwargs["residual"])
        return out, None

    return forward


def _mixed(plan: AttentionPlan, x_TN: Tensor, rows: RowLayout, turn: Rotation | None) -> Tensor:
    """What attention makes of queries, keys and values in one product, [T, H·d]."""
    if takes_variable_lengths(x_TN, plan.parts[0].d, plan.scores):
        q, k, v = (flat_heads(x, part, turn) for x, part in _pieces(plan, x_TN))
        return variable_length_attention(q, k, v, rows, plan.scores).flatten(1)
    if plan.norms[0] is None:
        q, k, v = split_heads(x_TN, plan.parts, rows, turn)  # the three in one pass
    else:
        q, k, v = (split_heads(x, (part,), rows, turn)[0] for x, part in _pieces(plan, x_TN))
    return join_heads(attention(q, k, v, rows, plan.scores), rows)


def _pieces(plan: AttentionPlan, x_TN: Tensor) -> Iterator[tuple[Tensor, Part]]:
    """Queries, keys and values with their norms, which go between product and rotation."""
    for part, norm in zip(plan.parts, (*plan.norms, None), strict=True):
        if plan.norms[0] is None:
            yield x_TN, part
            continue
        width = part.heads * part.d
        piece = x_TN[:, part.offset : part.offset + width]
        if norm is not None:
            shape = (len(x_TN), -1) if plan.norm_whole else (len(x_TN), part.heads, part.d)
            piece = norm(piece.reshape(shape)).reshape(len(x_TN), -1)
        yield piece, replace(part, offset=0)


def gated_forward(plan: GatedPlan, original: Forward, *, liger: bool = False) -> Forward:
    """A gated MLP's forward."""
    activation = liger_gated_activation if liger else gated_activation

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if under_autocast(x) or args or kwargs:
            return original(x, *args, **kwargs)
        return plan.output(activation(plan.inputs(x), plan.kind))

    return forward


def norm_forward(
    module: Any, eps: float, plus_one: bool, original: Forward, *, liger: bool = False
) -> Forward:
    """An RMS norm's forward."""
    norm = liger_rms_norm if liger else rms_norm

    def forward(x: Tensor) -> Tensor:
        if under_autocast(x) or x.dtype != module.weight.dtype:
            return original(x)  # type: ignore[no-any-return]
        return norm(x, module.weight, eps, plus_one=plus_one)

    return forward


def lora_forward(group: Group, original: Forward) -> Forward:
    """The forward of a single PEFT LoRA layer."""

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs or under_autocast(x) or x.dtype != group.weight.dtype:
            return original(x, *args, **kwargs)
        return group(x)

    return forward


def linear_forward(module: Any, original: Forward, int8: Int8Weight | None = None) -> Forward:
    """A frozen linear layer's forward, on the route that was chosen for its numbers."""

    def forward(x: Tensor) -> Tensor:
        if under_autocast(x) or module.weight.requires_grad:
            return original(x)  # type: ignore[no-any-return]
        weight = weight_of(module) if int8 is None else int8
        return frozen_linear(x, weight, module.bias)

    return forward


def interface_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention by transformers' interface, for modules that the engine does not know otherwise.

    ``query`` [1, H, T, d], ``key`` and ``value`` [1, K, T, d] over rows that lie end to end.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    state: State = module._lorita
    rows = state.rows_of(query.transpose(1, 2))
    if rows is None:
        out: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling,
            sliding_window=sliding_window, softcap=softcap, **kwargs,
        )  # fmt: skip
        return out
    kv, tokens, d = key.shape[1:]
    group = query.shape[1] // kv
    q, k, v = (
        split_heads(
            t[0].transpose(0, 1).reshape(tokens, -1), (Part(0, kv * n, n, n * d, d),), rows
        )[0]
        for t, n in ((query, group), (key, 1), (value, 1))
    )
    how = Scores(scaling or d**-0.5, sliding_window, softcap)
    return join_heads(attention(q, k, v, rows, how), rows).view(1, tokens, -1, d), None
