"""The forwards of a whole sped-up model, for trainers that call the model as usual.

Padded training calls are computed over packed rows. All other calls (generation, evaluation with
logits, autocast) go to the original forward.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from lorita.engine.autocast import under_autocast
from lorita.engine.forwards import Forward
from lorita.engine.kernels.row_layout import RowLayout, current_layout
from lorita.engine.packed_model import hidden_states, rows_loss
from lorita.engine.patch import Patch

_PLAIN = {"input_ids", "attention_mask", "labels", "use_cache", "num_items_in_batch",
          "return_dict", "output_attentions", "output_hidden_states"}  # fmt: skip
"""Arguments of an ordinary training call."""
_PACKED = {"position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k",
           "seq_idx"}  # fmt: skip
"""Arguments that collators add to rows that they have packed themselves."""


def causal_forward(lm: Any, patch: Patch, original: Forward) -> Forward:
    """The forward of the causal LM: returns the loss alone in a training call with labels."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        rows = _training_rows(lm, patch, args, kwargs)
        if rows is None:
            patch.unpack()
            return original(*args, **kwargs)
        from transformers.modeling_outputs import CausalLMOutputWithPast

        ids_T, labels_T, layout = rows
        total = rows_loss(lm, patch, ids_T, labels_T, layout)
        count = kwargs.get("num_items_in_batch")
        if count is None:
            count = max(len(layout.targets(labels_T)[1]), 1)
        return CausalLMOutputWithPast(loss=total / count)

    # The HF Trainer finds out from the signature which columns and options the model takes.
    forward.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
    return forward


def body_forward(lm: Any, patch: Patch, original: Forward) -> Forward:
    """The forward of the layers below the head, for callers with a head of their own.

    TRL computes its loss from these hidden states. They are returned where the caller expects
    them, with zeros in place of padding.
    """

    def forward(*args: Any, **kwargs: Any) -> Any:
        if current_layout() is not None or not lm.training:
            return original(*args, **kwargs)
        found = _rows_of_call(patch, args, kwargs)
        if found is None:
            patch.unpack()
            return original(*args, **kwargs)
        from transformers.modeling_outputs import BaseModelOutputWithPast

        real_BL, layout = found
        hidden_TD = hidden_states(lm, patch, kwargs["input_ids"][real_BL], layout)
        out_BLD = hidden_TD.new_zeros(*real_BL.shape, hidden_TD.shape[-1])
        out_BLD = out_BLD.index_put((real_BL,), hidden_TD)
        return BaseModelOutputWithPast(last_hidden_state=out_BLD)

    forward.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
    return forward


def _training_rows(
    lm: Any, patch: Patch, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, Tensor, RowLayout] | None:
    """Ids, labels and rows of a training call, without padding; None for any other call."""
    labels_BL = kwargs.get("labels")
    if labels_BL is None or not lm.training or patch.has_own_loss:
        return None
    found = _rows_of_call(patch, args, kwargs)
    if found is None:
        return None
    real_BL, layout = found
    return kwargs["input_ids"][real_BL], labels_BL[real_BL], layout


def _rows_of_call(
    patch: Patch, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, RowLayout] | None:
    """Which positions [B, L] hold tokens, and their rows; None for a call of another kind."""
    given = {name for name, value in kwargs.items() if value is not None and value is not False}
    ids_BL = kwargs.get("input_ids")
    if args or not patch.packs_rows or not given <= _PLAIN | _PACKED:
        return None
    if ids_BL is None or ids_BL.ndim != 2 or under_autocast(ids_BL):
        return None
    if kwargs.get("output_attentions") or kwargs.get("output_hidden_states"):
        return None
    mask_BL = kwargs.get("attention_mask")
    if given & _PACKED:
        return _packed_rows(ids_BL, kwargs.get("position_ids")) if mask_BL is None else None
    if mask_BL is None:
        mask_BL = torch.ones_like(ids_BL)
    if mask_BL.ndim != 2 or mask_BL.shape != ids_BL.shape:
        return None
    real_BL = mask_BL.bool()
    # Padding on one side only: a gap inside a row would shift positions.
    if real_BL.shape[1] > 1 and int((real_BL[:, 1:] != real_BL[:, :-1]).sum(1).max()) > 1:
        return None
    lengths = tuple(n for n in real_BL.sum(1).tolist() if n)
    return (real_BL, RowLayout(lengths)) if lengths else None


def _packed_rows(ids_BL: Tensor, places_BL: Tensor | None) -> tuple[Tensor, RowLayout] | None:
    """Rows that a collator has packed: each starts where the position is 0."""
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
