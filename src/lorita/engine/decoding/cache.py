"""Keys and values of the texts that are being written: one slot for each text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lorita.engine.kernels.decode import KeysValues
from lorita.engine.kernels.head_layout import Part

STEP = 64
"""The cache grows by at least this many tokens."""


class Cache:
    """Slots for texts; grows as more or longer texts arrive.

    ``shapes`` are key/value heads and head size of each attention layer.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], dtype: torch.dtype) -> None:
        self._shapes, self._dtype = list(shapes), dtype
        self.slots = self.capacity = 0
        self.layers: list[KeysValues] = []

    def reserve(self, slots: int, tokens: int) -> None:
        """Make room for this many slots of at least this many tokens each."""
        if slots <= self.slots and tokens <= self.capacity:
            return
        if tokens > self.capacity:
            tokens = -(-max(tokens, 3 * self.capacity // 2) // STEP) * STEP
        slots, capacity = max(slots, self.slots), max(tokens, self.capacity)
        before, self.layers = self.layers, []
        for number, (kv, d) in enumerate(self._shapes):
            # Zeros: plain torch multiplies what is behind a shorter text with a weight of zero.
            new = KeysValues(
                *(torch.zeros(slots, kv, capacity, d, dtype=self._dtype) for _ in "kv")
            )
            if before:
                new.k[: self.slots, :, : self.capacity] = before[number].k
                new.v[: self.slots, :, : self.capacity] = before[number].v
            self.layers.append(new)
        self.slots, self.capacity = slots, capacity

    def places(
        self, kv: int, slots: Sequence[int], lengths: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Where the tokens of texts from their start go, as ``RowLayout.slots`` says it: [T] each.

        The texts lie end to end; ``lengths`` are their tokens.
        """
        first = torch.cat(
            [
                torch.arange(length) + slot * kv * self.capacity
                for slot, length in zip(slots, lengths, strict=True)
            ]
        )
        return first, torch.full_like(first, self.capacity)


def shape_of(part: Part) -> tuple[int, int]:
    """Heads and head size of the keys."""
    return part.heads, part.d
