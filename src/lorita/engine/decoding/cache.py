"""Keys and values of the texts that are being written: one slot for each text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorita.engine.kernels.head_layout import Part

STEP = 64
"""The cache grows by at least this many tokens."""


@dataclass
class Stored:
    """Keys and values of one attention layer, each [slots, K, capacity, d]."""

    k: Tensor
    v: Tensor


class Cache:
    """Slots for texts; grows as more or longer texts arrive.

    ``shapes`` are key/value heads and head size of each attention layer.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], dtype: torch.dtype) -> None:
        self._shapes, self._dtype = list(shapes), dtype
        self.slots = self.capacity = 0
        self.layers: list[Stored] = []

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
            new = Stored(*(torch.zeros(slots, kv, capacity, d, dtype=self._dtype) for _ in "kv"))
            if before:
                new.k[: self.slots, :, : self.capacity] = before[number].k
                new.v[: self.slots, :, : self.capacity] = before[number].v
            self.layers.append(new)
        self.slots, self.capacity = slots, capacity

    def bytes_with(self, slots: int, tokens: int) -> int:
        """What it takes after ``reserve`` of these."""
        slots, tokens = max(slots, self.slots), max(tokens, self.capacity)
        values = sum(kv * d for kv, d in self._shapes)
        size: int = self._dtype.itemsize
        return 2 * values * slots * tokens * size

    def clear(self) -> None:
        """Forget everything, and give the memory back."""
        self.slots = self.capacity = 0
        self.layers = []


def shape_of(part: Part) -> tuple[int, int]:
    """Heads and head size of the keys."""
    return part.heads, part.d
