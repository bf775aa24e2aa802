"""The forwards of a whole sped-up model, for trainers that call the model as usual.

Training calls are computed over packed rows. All other calls (generation, evaluation with logits)
go to the original forward, and so do training calls of a kind that the fast step does not know: a
warning says which, once for each reason.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch
from torch import Tensor

from lorita.engine.forwards import Forward
from lorita.engine.kernels.row_layout import RowLayout, current_layout
from lorita.engine.packed_model import hidden_states, rows_loss
from lorita.engine.patch import Patch
from lorita.errors import LoritaWarning

_PLAIN = {"input_ids", "attention_mask", "labels", "use_cache", "num_items_in_batch",
          "return_dict", "output_attentions", "output_hidden_states"}  # fmt: skip
"""Arguments of an ordinary training call."""
_PACKED = {"position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k",
           "seq_idx"}  # fmt: skip
"""Arguments that collators add to rows that they have packed themselves."""


def causal_forward(lm: Any, patch: Patch, original: Forward) -> Forward:
    """The forward of the causal LM: returns the loss alone in a training call with labels."""
    signature = inspect.signature(original)

    def forward(*args: Any, **kwargs: Any) -> Any:
        call = _named(signature, args, kwargs)
        trains = lm.training and not patch.has_own_loss and not patch.undone
        found = _rows_of_call(patch, call) if trains and call.get("labels") is not None else None
        if not isinstance(found, tuple):
            patch.unpack()
            return original(*args, **kwargs)
        from transformers.modeling_outputs import CausalLMOutputWithPast

        real_BL, layout = found
        ids_T, labels_T = call["input_ids"][real_BL], call["labels"][real_BL]
        patch.calls["fast"] += 1
        total = rows_loss(lm, patch, ids_T, labels_T, layout)
        count = call.get("num_items_in_batch")
        if count is None:
            count = max(len(layout.targets(labels_T)[1]), 1)
        return CausalLMOutputWithPast(loss=total / count)

    # The HF Trainer finds out from the signature which columns and options the model takes.
    forward.__signature__ = signature  # type: ignore[attr-defined]
    return forward


def body_forward(lm: Any, patch: Patch, original: Forward) -> Forward:
    """The forward of the layers below the head, for callers with a head of their own.

    TRL computes its loss from these hidden states. They are returned where the caller expects
    them, with zeros in place of padding.
    """
    signature = inspect.signature(original)

    def forward(*args: Any, **kwargs: Any) -> Any:
        if current_layout() is not None or not lm.training or patch.undone:
            return original(*args, **kwargs)
        call = _named(signature, args, kwargs)
        found = _rows_of_call(patch, call)
        if isinstance(found, str):
            _say_once(patch, found)
            patch.unpack()
            return original(*args, **kwargs)
        from transformers.modeling_outputs import BaseModelOutputWithPast

        real_BL, layout = found
        patch.calls["fast"] += 1
        hidden_TD = hidden_states(lm, patch, call["input_ids"][real_BL], layout)
        out_BLD = hidden_TD.new_zeros(*real_BL.shape, hidden_TD.shape[-1])
        out_BLD = out_BLD.index_put((real_BL,), hidden_TD)
        return BaseModelOutputWithPast(last_hidden_state=out_BLD)

    forward.__signature__ = signature  # type: ignore[attr-defined]
    return forward


def _named(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The arguments of a call by name; those without a name by their number."""
    names = [*signature.parameters][: len(args)]
    names += [f"argument {number}" for number in range(len(names) + 1, len(args) + 1)]
    return {**dict(zip(names, args, strict=True)), **kwargs}


def _say_once(patch: Patch, reason: str) -> None:
    """Count a training call of the model's own forward, and warn if nobody knows why."""
    if not torch.is_grad_enabled():
        return
    patch.calls["own"] += 1
    if patch.packs_rows and reason not in patch.told:
        patch.told.add(reason)
        warnings.warn(
            f"lorita: a training step was computed without the fast step: {reason}. "
            "The result is right, but slower; further steps like it are not reported",
            LoritaWarning,
            stacklevel=2,
        )


def _rows_of_call(patch: Patch, call: dict[str, Any]) -> tuple[Tensor, RowLayout] | str:
    """Which positions [B, L] hold tokens, and their rows; else why this is another kind of call."""
    if not patch.packs_rows:
        return "rows of this model are not packed"
    given = {name for name, value in call.items() if value is not None and value is not False}
    asked = (given - _PLAIN - _PACKED) | (given & {"output_attentions", "output_hidden_states"})
    if asked:
        return f"the call passes {', '.join(sorted(asked))}"
    ids_BL = call.get("input_ids")
    if ids_BL is None or ids_BL.ndim != 2:
        return "the call has no input_ids [batch, length]"
    mask_BL = call.get("attention_mask")
    if given & _PACKED:
        if mask_BL is not None:
            return f"the call passes attention_mask and {', '.join(sorted(given & _PACKED))}"
        return _packed_rows(ids_BL, call.get("position_ids"))
    if mask_BL is None:
        mask_BL = torch.ones_like(ids_BL)
    if mask_BL.ndim != 2 or mask_BL.shape != ids_BL.shape:
        return "its attention_mask has another shape than input_ids"
    real_BL = mask_BL.bool()
    # Padding on one side only: a gap inside a row would shift positions.
    if real_BL.shape[1] > 1 and int((real_BL[:, 1:] != real_BL[:, :-1]).sum(1).max()) > 1:
        return "its attention_mask has gaps inside a row"
    lengths = tuple(n for n in real_BL.sum(1).tolist() if n)
    return (real_BL, RowLayout(lengths)) if lengths else "its attention_mask has no token"


def _packed_rows(ids_BL: Tensor, places_BL: Tensor | None) -> tuple[Tensor, RowLayout] | str:
    """Rows that a collator has packed: each starts where the position is 0."""
    if places_BL is None:
        return "its packed rows have no position_ids"
    if len(ids_BL) != 1 or places_BL.shape != ids_BL.shape:
        return "its packed rows are more than one line of input_ids and position_ids"
    starts = (places_BL[0] == 0).nonzero().squeeze(1).tolist()
    if not starts or starts[0] != 0:
        return "its position_ids do not begin with 0"
    ends = [*starts[1:], ids_BL.shape[1]]
    layout = RowLayout(tuple(end - start for start, end in zip(starts, ends, strict=True)))
    if not torch.equal(places_BL[0].cpu(), layout.positions(torch.device("cpu"))):
        return "its position_ids do not count up by one within each row"
    return torch.ones_like(ids_BL, dtype=torch.bool), layout
