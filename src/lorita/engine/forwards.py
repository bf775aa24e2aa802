"""The fast forwards that replace those of transformers and PEFT on single module instances.

Each calls the module's original forward in any call that it is not made for: generation with a
cache, a disabled adapter. Under autocast, products are computed in its number format, and all else
in that of the tensors, as in torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lorita.engine.autocast import NarrowCopies, autocast_dtype, for_product
from lorita.engine.kernels.attention import attention
from lorita.engine.kernels.gpu import (
    liger_gated_activation,
    liger_rms_norm,
    takes_variable_lengths,
    variable_length_attention,
)
from lorita.engine.kernels.head_layout import Part, Rotation, flat_heads
from lorita.engine.kernels.heads import join_heads, split_heads
from lorita.engine.kernels.int8 import rounds
from lorita.engine.kernels.ops import frozen_linear, gated_activation, rms_norm
from lorita.engine.kernels.products import RoundedWeight
from lorita.engine.kernels.row_layout import RowLayout
from lorita.engine.kernels.score_rule import Scores
from lorita.engine.linears import is_transposed, weight_of
from lorita.engine.lora_linear import Group
from lorita.engine.patch import Before, CallState, state_of
from lorita.engine.plans import AttentionPlan, GatedPlan, NormPlan, Unsuited

Forward = Callable[..., Any]


def attention_forward(plan: AttentionPlan, state: CallState, original: Forward) -> Forward:
    """An attention module's forward over packed rows."""

    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        rows = state.rows_of(hidden_states)
        if rows is None:
            return original(hidden_states, *args, **kwargs)
        x_TN, gates = plan.without_gates(plan.inputs(hidden_states[0]))
        turn = state.rotation(kwargs.get("position_embeddings"))
        mixed = _mixed(plan, x_TN, rows, turn, state.kept)
        out = plan.output((mixed if gates is None else mixed * gates.sigmoid())[None])
        if plan.dropout:
            out = functional.dropout(out, plan.dropout, plan.output.training)
        if plan.adds_residual:
            out = out + (args[0] if args else kwargs["residual"])
        return out, None

    return forward


def _mixed(
    plan: AttentionPlan, x_TN: Tensor, rows: RowLayout, turn: Rotation | None, kept: Before | None
) -> Tensor:
    """The output of attention [T, H·d] from queries, keys and values in one tensor."""
    if kept is None and takes_variable_lengths(x_TN, plan.parts[0].d, plan.scores):
        q, k, v = (flat_heads(x, part, turn) for x, part in plan.pieces(x_TN))
        return variable_length_attention(q, k, v, rows, plan.scores).flatten(1)
    if plan.norms[0] is None:
        q, k, v = split_heads(x_TN, plan.parts, rows, turn)  # all three in one pass
    else:
        q, k, v = (split_heads(x, (part,), rows, turn)[0] for x, part in plan.pieces(x_TN))
    if kept is not None:
        k, v = kept.joined(plan, k, v, rows)
    return join_heads(attention(q, k, v, rows, plan.scores), rows)


def gated_forward(plan: GatedPlan, original: Forward, *, liger: bool = False) -> Forward:
    """A gated MLP's forward."""
    activation = liger_gated_activation if liger else gated_activation

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs:
            return original(x, *args, **kwargs)
        return plan.output(activation(plan.inputs(x), plan.kind))

    return forward


def norm_forward(
    module: Any, plan: NormPlan, original: Forward, liger_casting: str | None = None
) -> Forward:
    """An RMS norm's forward; liger's, rounding where ``liger_casting`` says, if it is given."""
    liger = partial(liger_rms_norm, casting=liger_casting) if liger_casting else None
    kernel = liger or rms_norm

    def forward(x: Tensor) -> Tensor:
        if x.dtype != module.weight.dtype:
            if autocast_dtype(x) is None or module.weight.dtype != torch.float32:
                return original(x)  # type: ignore[no-any-return]
            x = x.float()  # the output of a product, in the narrow format
        return kernel(x, module.weight, plan.eps, plus_one=plan.plus_one)

    return forward


def lora_forward(group: Group, original: Forward) -> Forward:
    """The forward of a single PEFT LoRA layer."""

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        same = x.dtype == group.weight.dtype or autocast_dtype(x) is not None
        if args or kwargs or not same:
            return original(x, *args, **kwargs)
        return group(x)

    return forward


def linear_forward(module: Any, original: Forward, rounded: RoundedWeight | None = None) -> Forward:
    """A frozen linear layer's forward, with its own weight or with a ``rounded`` one."""
    copies = NarrowCopies()

    def forward(x: Tensor) -> Tensor:
        if module.weight.requires_grad:
            return original(x)  # type: ignore[no-any-return]
        dtype = autocast_dtype(x)
        if rounded is not None and rounds():
            return frozen_linear(for_product(x), rounded, module.bias)
        if dtype is None:
            return frozen_linear(for_product(x), weight_of(module), module.bias)
        copy = copies.of(module.weight, dtype)
        return functional.linear(x, copy.t() if is_transposed(module) else copy, module.bias)

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
    """An attention function for transformers' interface: for modules with an unknown structure.

    ``query`` [1, H, T, d], ``key`` and ``value`` [1, K, T, d] over packed rows. ``Unsuited`` if
    the call asks for anything that is not computed here.
    """
    query, key, value = (for_product(x) for x in (query, key, value))
    state = state_of(module)
    rows = state.rows_of(query.transpose(1, 2))
    kv, tokens, d = key.shape[1:]
    unknown = [n for n, value in kwargs.items() if n not in _IGNORED and _asks(value)]
    if attention_mask is not None:
        unknown.append("attention_mask")
    width = value.shape[-1]
    if rows is None or tokens != rows.num_tokens or width > d or unknown:
        what = ", ".join(unknown) or "queries, keys and values of other shapes"
        raise Unsuited(f"its attention takes {what}")
    value = functional.pad(value, (0, d - width))  # DeepSeek's are narrower than its keys
    group = query.shape[1] // kv
    q, k, v = (
        split_heads(
            t[0].transpose(0, 1).reshape(tokens, -1), (Part(0, kv * n, n, n * d, d),), rows
        )[0]
        for t, n in ((query, group), (key, 1), (value, 1))
    )
    if state.kept is not None:
        k, v = state.kept.joined(module, k, v, rows)
    how = Scores(scaling or d**-0.5, sliding_window, softcap)
    out = join_heads(attention(q, k, v, rows, how), rows).view(1, tokens, -1, d)
    return out[..., :width], None


_IGNORED = ("is_causal", "position_ids", "use_cache", "cache_position", "output_attentions")
"""Arguments of attention calls that change nothing over packed rows of a causal model."""


def _asks(value: Any) -> bool:
    """Whether an argument is set to anything that could matter."""
    return value is not None and not (isinstance(value, (bool, int, float)) and not value)
