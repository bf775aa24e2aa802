"""A sped-up causal LM over packed rows: hidden states, loss, and what scores are computed from.

Rows are packed end to end, without padding. The loss needs hidden states only at positions that
have a target; a frozen, plain output head is computed there in chunks (``loss.py``).
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lorita.engine.activated import activation_of
from lorita.engine.autocast import autocast_dtype, for_product
from lorita.engine.causal_lm import body_of, causal_lm, head_of
from lorita.engine.frozen_layers import BottomCache
from lorita.engine.heads import LinearHead
from lorita.engine.kernels.loss import cross_entropy_sum
from lorita.engine.kernels.products import for_products
from lorita.engine.kernels.row_layout import RowLayout, computing
from lorita.engine.patch import Before, Patch, patch_of
from lorita.engine.plans import Unsuited
from lorita.engine.token_rows import token_rows

IGNORE = -100
"""The label of a token that is not a target."""


def is_sped_up(model: nn.Module) -> bool:
    """Whether ``speedup`` was called on this model, and not undone."""
    return patch_of(causal_lm(model)) is not None


def packed_loss(
    model: nn.Module,
    input_ids_T: Tensor,
    labels_T: Tensor,
    row_lengths: Sequence[int],
    *,
    continues: Sequence[int | None] = (),
    counts_T: Tensor | None = None,
    bottom: BottomCache | None = None,
    row_ids: Sequence[Hashable] = (),
) -> Tensor:
    """The loss (nats, float32) of packed rows, summed over their targets, for a sped-up model.

    ``labels_T`` is aligned with ``input_ids_T``, -100 where there is no target; a token is
    predicted from the tokens before it in the same row. Divide by the number of targets for the
    mean.

    Rows that begin with the same tokens may share them: ``continues`` is as in ``RowLayout``, and
    ``counts_T`` says in how many rows each label is a target. It is one in all of them if None.

    With ``bottom`` (``frozen_layers.bottom_cache``) and ``row_ids``, in training, the layers
    below the first adapted one are computed once per row. ``ValueError`` if the model is not sped
    up.
    """
    lm, patch = _sped_up(model)
    rows = RowLayout(tuple(row_lengths), tuple(continues))
    kept = (bottom, row_ids) if bottom is not None and lm.training else None
    return rows_loss(lm, patch, input_ids_T, labels_T, rows, kept, counts_T)


def packed_targets(
    model: nn.Module, input_ids_T: Tensor, labels_T: Tensor, row_lengths: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The input of ``head_of(model)`` [N, D] at the targets of packed rows, and the targets [N].

    Arguments and errors as in ``packed_loss``.
    """
    lm, patch = _sped_up(model)
    rows = RowLayout(tuple(row_lengths))
    hidden_TD = _safe_hidden_states(lm, patch, input_ids_T, rows)
    positions_N, targets_N = rows.targets(labels_T)
    return hidden_TD[positions_N], targets_N


def _sped_up(model: nn.Module) -> tuple[Any, Patch]:
    lm = causal_lm(model)
    patch = patch_of(lm)
    if patch is None:
        raise ValueError("the model is not sped up: call speedup() on it first")
    return lm, patch


def hidden_states(
    lm: Any,
    patch: Patch,
    ids_T: Tensor,
    rows: RowLayout,
    bottom: tuple[BottomCache, Sequence[Hashable]] | None = None,
    kept: Before | None = None,
) -> Tensor:
    """The last hidden states [T, D] of packed rows: the output of ``body_of(lm)``.

    ``bottom`` is a cache of the input of the first adapted layer, and the ids of the rows. ``kept``
    has what comes before the rows, or listens; see ``CallState``. ``Unsuited`` if the model calls
    attention with what the fast path does not know.
    """
    body = body_of(lm)
    if kept is not None and not patch.packs_rows:
        raise Unsuited("its rows are not laid end to end")
    if rows.continues and activation_of(lm) is not None:
        raise ValueError("an activated adapter may act on a beginning in some of its rows only")
    if not patch.packs_rows:
        patch.unpack()
        padded, device = patch.rows == "padded", ids_T.device
        if rows.continues:
            whole_TD = _apart(body, ids_T[rows.sources.to(device)], rows.full, padded=padded)
            return whole_TD[rows.own.to(device)]
        return _apart(body, ids_T, rows, padded=padded)
    options: dict[str, Any] = {"input_ids": ids_T[None], "use_cache": False}
    if "position_ids" in inspect.signature(type(body).forward).parameters:
        options["position_ids"] = rows.positions(ids_T.device)[None]
    patch.pack(rows, kept)
    with computing(rows.lengths), _cached(bottom, rows):
        hidden: Tensor = body(**options)[0]
    return hidden[0]


def _cached(
    bottom: tuple[BottomCache, Sequence[Hashable]] | None, rows: RowLayout
) -> AbstractContextManager[None]:
    if bottom is None:
        return nullcontext()
    cache, row_ids = bottom
    if cache.known(row_ids):
        return cache.passed_over(row_ids)
    return cache.listening(row_ids, rows.lengths)


def _apart(body: Any, ids_T: Tensor, rows: RowLayout, *, padded: bool) -> Tensor:
    """The same by the model's own attention: rows side by side, padded, or one after another."""
    each = ids_T.split(list(rows.lengths))
    if not padded or len(each) == 1:
        return torch.cat([body(input_ids=row[None], use_cache=False)[0][0] for row in each])
    ids_BL = nn.utils.rnn.pad_sequence(list(each), batch_first=True)
    lengths = torch.tensor(rows.lengths, device=ids_T.device)
    mask_BL = torch.arange(ids_BL.shape[1], device=ids_T.device) < lengths[:, None]
    hidden_BLD: Tensor = body(input_ids=ids_BL, attention_mask=mask_BL.long(), use_cache=False)[0]
    return hidden_BLD[mask_BL]


def rows_loss(
    lm: Any,
    patch: Patch,
    ids_T: Tensor,
    labels_T: Tensor,
    rows: RowLayout,
    bottom: tuple[BottomCache, Sequence[Hashable]] | None = None,
    counts_T: Tensor | None = None,
) -> Tensor:
    """The loss summed over all targets, float32. ``counts_T`` as for ``packed_loss``."""
    hidden_TD = _safe_hidden_states(lm, patch, ids_T, rows, bottom)
    if counts_T is None:
        return loss_at_targets(lm, patch, hidden_TD, labels_T, rows)
    total = torch.zeros((), device=hidden_TD.device)
    for count in counts_T[labels_T != IGNORE].unique().tolist():
        labels_of_T = labels_T.where(counts_T == count, IGNORE)
        total = total + count * loss_at_targets(lm, patch, hidden_TD, labels_of_T, rows)
    return total


def _safe_hidden_states(
    lm: Any,
    patch: Patch,
    ids_T: Tensor,
    rows: RowLayout,
    bottom: tuple[BottomCache, Sequence[Hashable]] | None = None,
) -> Tensor:
    """The same, through the model's own attention once it asks for more than in the self-check."""
    try:
        return hidden_states(lm, patch, ids_T, rows, bottom)
    except Unsuited:
        patch.rows = "padded"
        return hidden_states(lm, patch, ids_T, rows, bottom)


def loss_at_targets(
    lm: Any, patch: Patch, hidden_TD: Tensor, labels_T: Tensor, rows: RowLayout
) -> Tensor:
    """The loss summed over all targets of packed rows, float32, from the last hidden states."""
    positions_N, targets_N = rows.targets(labels_T)
    hidden_ND = hidden_TD[positions_N]
    head, narrow = head_of(lm), autocast_dtype(hidden_ND)
    own = token_rows(head.module) if isinstance(head, LinearHead) else None
    if isinstance(head, LinearHead) and (own is not None or head.is_frozen_linear()):
        layer = head.module if own is None else own.base
        weight_VD = for_products(layer.weight)
        is_tensor = isinstance(weight_VD, Tensor)
        if narrow is not None and isinstance(weight_VD, Tensor):
            weight_VD = patch.copies.of(weight_VD, narrow)
        hidden_ND = for_product(hidden_ND)
        if not is_tensor or weight_VD.dtype == hidden_ND.dtype:
            return cross_entropy_sum(
                hidden_ND,
                weight_VD,
                targets_N,
                bias=layer.bias,
                softcap=head.softcap,
                logit_scale=head.scale,
                rows=None if own is None else (own.ids_R, own.rows_RD),
            )
    return functional.cross_entropy(head.logits(hidden_ND), targets_N, reduction="sum")
