"""The loss of some rows under a model: the sum of the negative log-likelihoods of their targets.

A sum, not a mean: steps are put together from micro-batches, and only the whole step knows how
many targets it has.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING

from lorita.data.batches import MicroBatch, micro_batches
from lorita.data.shared_beginnings import lay_out

if TYPE_CHECKING:
    import torch

    from lorita.engine.frozen_layers import BottomCache
    from lorita.engine.kept_prompts import KeptPrompts

LossSum = Callable[[MicroBatch], "torch.Tensor"]


def padded_loss(model: torch.nn.Module, *, pad_id: int, device: torch.device) -> LossSum:
    """The plain way: rows padded to the longest, the model's own forward, a float32 loss.

    One row after another where padding would change the model's numbers.
    """
    from torch.nn import functional

    from lorita.engine.autocast import autocast_for
    from lorita.engine.self_check import padding_is_harmless

    harmless = padding_is_harmless(model)

    def loss_sum(batch: MicroBatch) -> torch.Tensor:
        if not harmless and len(batch.examples) > 1:
            rows = (loss_sum(row) for row in micro_batches(batch.examples, 1))
            return functools.reduce(operator.add, rows)
        inputs = batch.padded(pad_id, device)
        labels_BL = inputs.pop("labels")
        with autocast_for(model, device):
            logits_BLV = model(**inputs, use_cache=False).logits
        return functional.cross_entropy(
            logits_BLV[:, :-1].flatten(0, 1).float(),
            labels_BL[:, 1:].flatten(),
            reduction="sum",
        )

    return loss_sum


def end_to_end_loss(
    model: torch.nn.Module,
    *,
    device: torch.device,
    bottom: BottomCache | None = None,
    prompts: KeptPrompts | None = None,
) -> LossSum:
    """The fast way, for a model that ``engine.speedup`` was called on: no padding, no logits.

    A beginning that rows of a micro-batch share is computed once. ``bottom`` keeps what enters the
    first adapted layer, by the rows' tokens, while training; then nothing may be shared. The same
    holds for ``prompts``, which keep what an activated adapter's base makes of the rows' prompts.
    """
    import torch

    from lorita.engine.kept_prompts import loss_after_prompts
    from lorita.engine.packed_model import packed_loss

    def loss_sum(batch: MicroBatch) -> torch.Tensor:
        if prompts is not None and torch.is_grad_enabled():
            return loss_after_prompts(
                model, [(row.input_ids, row.labels) for row in batch.examples], prompts
            )
        if batch.groups:
            rows = lay_out(batch.examples, batch.groups, device)
            return packed_loss(
                model, rows.ids_T, rows.labels_T, rows.lengths,
                continues=rows.continues, counts_T=rows.counts_T,
            )  # fmt: skip
        ids_T, labels_T, lengths = batch.end_to_end(device)
        # Not by the number: the pieces of a long row share it.
        row_ids = [tuple(example.input_ids) for example in batch.examples]
        return packed_loss(model, ids_T, labels_T, lengths, bottom=bottom, row_ids=row_ids)

    return loss_sum
