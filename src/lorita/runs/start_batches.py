"""Training rows for initialisations that look at some before the first step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lorita.data.examples import IGNORE
from lorita.errors import AdapterError

if TYPE_CHECKING:
    import torch

    from lorita.runs.prepare import Prepared

MOST_ROWS = 64
"""Rows that are looked at, spread evenly over all; LoRA-GA's authors take 64."""
IN_A_BATCH = 4


def start_batches(prepared: Prepared, device: torch.device) -> Iterator[dict[str, torch.Tensor]]:
    """Rows as padded batches, the same in every run; ``AdapterError`` if there are too few."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    rows = prepared.data.train
    count = min(len(rows), MOST_ROWS) // IN_A_BATCH * IN_A_BATCH
    if not count:
        raise AdapterError(
            f"init_lora_weights: {len(rows)} training rows are too few to start from",
            hint=f"It takes at least {IN_A_BATCH}. Or use --init-lora-weights true.",
        )
    chosen = [rows[i * len(rows) // count] for i in range(count)]
    for start in range(0, count, IN_A_BATCH):
        part = chosen[start : start + IN_A_BATCH]
        ids = [torch.tensor(example.input_ids) for example in part]
        labels = [torch.tensor(example.labels) for example in part]
        yield {
            "input_ids": pad_sequence(ids, batch_first=True).to(device),
            "attention_mask": pad_sequence(
                [torch.ones_like(row) for row in ids], batch_first=True
            ).to(device),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE).to(device),
        }
