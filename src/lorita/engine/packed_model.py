"""A causal LM over rows that lie end to end: hidden states, loss, and the model's own call.

The loss needs hidden states at target positions only; the output head is computed there, in chunks
(``loss.py``), where it is frozen and plain.
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lorita.engine.forwards import Forward, under_autocast
from lorita.engine.frozen_layers import BottomCache
from lorita.engine.kernels.loss import cross_entropy_sum
from lorita.engine.kernels.row_layout import RowLayout, computing, current_layout
from lorita.engine.replace import Replaced

IGNORE = -100


def hidden_states(
    lm: Any,
    replaced: Replaced,
    ids_T: Tensor,
    rows: RowLayout,
    bottom: tuple[BottomCache, Sequence[Hashable]] | None = None,
) -> Tensor:
    """The last hidden states [T, D] of rows laid end to end.

    ``bottom`` is a cache of what enters the first adapted layer, and the ids of the rows.
    """
    body = lm.base_model
    if not replaced.packs_rows:
        return _padded_hidden(body, ids_T, rows)
    options: dict[str, Any] = {"input_ids": ids_T[None], "use_cache": False}
    if "position_ids" in inspect.signature(type(body).forward).parameters:
        options["position_ids"] = rows.positions(ids_T.device)[None]
    replaced.state.layout = rows
    with computing(rows.lengths), _below(bottom, rows):
        hidden: Tensor = body(**options)[0]
    return hidden[0]


def _below(
    bottom: tuple[BottomCache, Sequence[Hashable]] | None, rows: RowLayout
) -> AbstractContextManager[None]:
    if bottom is None:
        return nullcontext()
    cache, row_ids = bottom
    if cache.known(row_ids):
        return cache.passed_over(row_ids)
    return cache.listening(row_ids, rows.lengths)


def _padded_hidden(body: Any, ids_T: Tensor, rows: RowLayout) -> Tensor:
    """The same through the model's own attention: rows padded side by side, then laid out again."""
    ids_BL = nn.utils.rnn.pad_sequence(list(ids_T.split(list(rows.lengths))), batch_first=True)
    lengths = torch.tensor(rows.lengths, device=ids_T.device)
    mask_BL = torch.arange(ids_BL.shape[1], device=ids_T.device) < lengths[:, None]
    hidden_BLD: Tensor = body(input_ids=ids_BL, attention_mask=mask_BL.long(), use_cache=False)[0]
    return hidden_BLD[mask_BL]


def rows_loss(
    lm: Any,
    replaced: Replaced,
    ids_T: Tensor,
    labels_T: Tensor,
    rows: RowLayout,
    bottom: tuple[BottomCache, Sequence[Hashable]] | None = None,
) -> Tensor:
    """The summed loss over all targets, float32."""
    hidden_TD = hidden_states(lm, replaced, ids_T, rows, bottom)
    positions_N, targets_N = rows.targets(labels_T)
    hidden_ND = hidden_TD[positions_N]
    config = lm.config.get_text_config()
    softcap = getattr(config, "final_logit_softcapping", None)
    scale = getattr(config, "logit_scale", None) or 1.0 / getattr(config, "logits_scaling", 1.0)
    head = lm.get_output_embeddings()
    if _is_plain(head, hidden_ND):
        return cross_entropy_sum(
            hidden_ND, head.weight, targets_N, bias=head.bias, softcap=softcap, logit_scale=scale
        )
    logits_NV = head(hidden_ND).float() * scale
    if softcap:
        logits_NV = softcap * torch.tanh(logits_NV / softcap)
    return functional.cross_entropy(logits_NV, targets_N, reduction="sum")


def target_states(
    lm: Any, replaced: Replaced, ids_T: Tensor, labels_T: Tensor, rows: RowLayout
) -> tuple[Tensor, Tensor]:
    """What the output head is given at all targets, [N, D], and the targets, [N]."""
    hidden_TD = hidden_states(lm, replaced, ids_T, rows)
    positions_N, targets_N = rows.targets(labels_T)
    return hidden_TD[positions_N], targets_N


def _is_plain(head: Any, hidden: Tensor) -> bool:
    """Whether the head is a frozen linear layer: then its gradient need not be made."""
    return (
        type(head) is nn.Linear
        and not head.weight.requires_grad
        and (head.bias is None or not head.bias.requires_grad)
        and head.weight.dtype == hidden.dtype
    )


def causal_forward(lm: Any, replaced: Replaced, original: Forward) -> Forward:
    """The model's forward: training calls with labels go over rows without padding.

    Everything else (generation, evaluation with logits, autocast) is the original's.
    """

    def forward(*args: Any, **kwargs: Any) -> Any:
        rows = _training_rows(lm, replaced, args, kwargs)
        if rows is None:
            replaced.state.layout = None
            return original(*args, **kwargs)
        from transformers.modeling_outputs import CausalLMOutputWithPast

        ids_T, labels_T, layout = rows
        total = rows_loss(lm, replaced, ids_T, labels_T, layout)
        count = kwargs.get("num_items_in_batch")
        if count is None:
            count = max(len(layout.targets(labels_T)[1]), 1)
        return CausalLMOutputWithPast(loss=total / count)

    # The HF Trainer reads the signature to learn which columns and options the model takes.
    forward.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
    return forward


_HARMLESS = {"input_ids", "attention_mask", "labels", "use_cache", "num_items_in_batch",
             "return_dict", "output_attentions", "output_hidden_states"}  # fmt: skip
# What collators send along with rows that already lie end to end.
_FLAT = {"position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k",
         "seq_idx"}  # fmt: skip


def _training_rows(
    lm: Any, replaced: Replaced, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, Tensor, RowLayout] | None:
    """Ids, labels and rows of a training call without its padding; None for any other call."""
    labels_BL = kwargs.get("labels")
    if labels_BL is None or not lm.training:
        return None
    found = _rows_of_call(replaced, args, kwargs)
    if found is None:
        return None
    real_BL, layout = found
    return kwargs["input_ids"][real_BL], labels_BL[real_BL], layout


def body_forward(lm: Any, replaced: Replaced, original: Forward) -> Forward:
    """The forward of the layers below the head, for callers that bring a head of their own.

    TRL computes its loss from these hidden states. A padded training call is computed over rows
    without padding, and its result put back where the caller expects it; padding gets zeros.
    """

    def forward(*args: Any, **kwargs: Any) -> Any:
        if current_layout() is not None or not lm.training:
            return original(*args, **kwargs)
        found = _rows_of_call(replaced, args, kwargs)
        if found is None:
            replaced.state.layout = None
            return original(*args, **kwargs)
        from transformers.modeling_outputs import BaseModelOutputWithPast

        real_BL, layout = found
        hidden_TD = hidden_states(lm, replaced, kwargs["input_ids"][real_BL], layout)
        out_BLD = hidden_TD.new_zeros(*real_BL.shape, hidden_TD.shape[-1])
        out_BLD = out_BLD.index_put((real_BL,), hidden_TD)
        return BaseModelOutputWithPast(last_hidden_state=out_BLD)

    forward.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
    return forward


def _rows_of_call(
    replaced: Replaced, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, RowLayout] | None:
    """Which of [B, L] are tokens, and their rows; None where the call is not a plain one."""
    given = {name for name, value in kwargs.items() if value is not None and value is not False}
    ids_BL = kwargs.get("input_ids")
    if args or not replaced.packs_rows or not given <= _HARMLESS | _FLAT:
        return None
    if ids_BL is None or ids_BL.ndim != 2 or under_autocast(ids_BL):
        return None
    if kwargs.get("output_attentions") or kwargs.get("output_hidden_states"):
        return None
    mask_BL = kwargs.get("attention_mask")
    if given & _FLAT:
        return _flat_rows(ids_BL, kwargs.get("position_ids")) if mask_BL is None else None
    if mask_BL is None:
        mask_BL = torch.ones_like(ids_BL)
    if mask_BL.ndim != 2 or mask_BL.shape != ids_BL.shape:
        return None
    real_BL = mask_BL.bool()
    # Padding on one side only: a hole inside a row would shift positions.
    if real_BL.shape[1] > 1 and int((real_BL[:, 1:] != real_BL[:, :-1]).sum(1).max()) > 1:
        return None
    lengths = tuple(n for n in real_BL.sum(1).tolist() if n)
    return (real_BL, RowLayout(lengths)) if lengths else None


def _flat_rows(ids_BL: Tensor, places_BL: Tensor | None) -> tuple[Tensor, RowLayout] | None:
    """Rows that a collator laid end to end already: each begins where positions begin again."""
    if places_BL is None or len(ids_BL) != 1 or places_BL.shape != ids_BL.shape:
        return None
    starts = (places_BL[0] == 0).nonzero().squeeze(1).tolist()
    if not starts or starts[0] != 0:
        return None
    ends = [*starts[1:], ids_BL.shape[1]]
    layout = RowLayout(tuple(end - start for start, end in zip(starts, ends, strict=True)))
    if not torch.equal(places_BL[0].cpu(), layout.positions(torch.device("cpu"))):
        return None
    return torch.ones_like(ids_BL, dtype=torch.bool), layout
