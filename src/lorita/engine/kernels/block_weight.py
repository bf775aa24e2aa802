"""Frozen weights that stay quantised: expanded a piece at a time, whenever they are used.

A model of eight billion weights in 4 bits takes 4.7 GB, and 16 GB as bfloat16. Its products need
ordinary numbers, but only of the piece that is being multiplied. Expanding a piece costs the same
for any number of tokens: for a few hundred of them it is a few hundredths of the product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from lorita.engine.kernels.expand import BLOCKS, block_of, expand
from lorita.engine.kernels.kept import Kept
from lorita.engine.kernels.products import product, widened

PIECE = 2**23
"""Numbers that exist at a time: 32 MB in float32. A product of fewer output rows is slow."""


@dataclass(frozen=True)
class Blocks:
    """A matrix [O, I] as quantised blocks: ``rows`` is uint8 [O, bytes of a row].

    ``kind`` is the format's number in ggml. The bytes may be those of a mapped file.
    """

    rows: Tensor
    kind: int

    @property
    def shape(self) -> tuple[int, int]:
        """[O, I]."""
        numbers, size = block_of(self.kind)
        return len(self.rows), self.rows.shape[1] // size * numbers

    def expand(self, out: Tensor, first: int = 0) -> None:
        """The rows from ``first`` on as numbers, as many as ``out`` [n, I] has."""
        expand(self.rows[first : first + len(out)], self.kind, out)

    def gathered(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """The rows with these numbers as [*ids.shape, I]; ``IndexError`` where there are none."""
        flat = ids.reshape(-1)
        if len(flat) and (int(flat.min()) < 0 or int(flat.max()) >= len(self.rows)):
            raise IndexError("index out of range in self")  # the words of torch's own embedding
        out = torch.empty(len(flat), self.shape[1], dtype=dtype)
        expand(self.rows[flat], self.kind, out)
        return out.view(*ids.shape, -1)


class BlockWeight:
    """Matrices with the same inputs as one weight [sum of their O, I] (a ``RoundedWeight``)."""

    def __init__(self, parts: Sequence[Blocks], dtype: torch.dtype) -> None:
        self.parts, self.dtype = tuple(parts), dtype
        self.shape = (sum(part.shape[0] for part in parts), parts[0].shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def forward(self, x_TI: Tensor) -> Tensor:
        """``x·Wᵀ`` [T, O], in the type of ``x``."""
        wide = x_TI.float() if widened(x_TI) else x_TI
        out_TO = None
        for first, piece in self._pieces(wide.dtype):
            part = product(wide, piece)
            if len(piece) == len(self):
                return part.to(x_TI.dtype)
            out_TO = x_TI.new_empty(len(x_TI), len(self)) if out_TO is None else out_TO
            out_TO[:, first : first + len(piece)] = part
        if out_TO is None:
            raise ValueError("a weight without rows")
        return out_TO

    def backward(self, grad_TO: Tensor) -> Tensor:
        """``grad·W`` [T, I], in the type of ``grad``; summed over pieces in float32."""
        wide = grad_TO.float() if widened(grad_TO) else grad_TO
        sum_TI = None
        for first, piece in self._pieces(wide.dtype):
            part = product(wide[:, first : first + len(piece)].contiguous(), piece.t())
            sum_TI = part.float() if sum_TI is None else sum_TI.add_(part)
        if sum_TI is None:
            raise ValueError("a weight without rows")
        return sum_TI.to(grad_TO.dtype)

    def beside(self, others: Sequence[Any]) -> BlockWeight:
        """See ``QuantisedWeight``; all in this one's dtype."""
        parts = [part for weight in (self, *others) for part in weight.parts]
        return BlockWeight(parts, self.dtype)

    def place(self) -> tuple[int, int] | None:
        """See ``QuantisedWeight``; None for several matrices as well."""
        (blocks, *more) = self.parts
        if more or blocks.kind not in BLOCKS or not blocks.rows.is_contiguous():
            return None
        return blocks.rows.data_ptr(), blocks.kind

    def _pieces(self, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
        """The first row of each piece, and its numbers, which the next piece overwrites."""
        width = self.shape[1]
        count = -(-self.shape[0] * width // PIECE)
        ends = [self.shape[0] * i // count for i in range(count + 1)]
        starts = [0]
        for part in self.parts:
            starts.append(starts[-1] + part.shape[0])
        for first, end in pairwise(ends):
            piece = _kept.empty((end - first, width), dtype)
            for part, start in zip(self.parts, starts, strict=False):
                low, high = max(first, start), min(end, start + part.shape[0])
                if low < high:
                    part.expand(piece[low - first : high - first], low - start)
            yield first, piece


_kept = Kept()
