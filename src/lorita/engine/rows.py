"""Which rows are being computed: rows lie end to end, and attention must know where each ends.

The layout of the current call is kept in a context variable, because transformers' own layers
stand between the call and the attention and pass nothing on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class RowLayout:
    """Rows of these lengths, one after another."""

    lengths: tuple[int, ...]

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """(start, length) of each row."""
        spans, start = [], 0
        for length in self.lengths:
            spans.append((start, length))
            start += length
        return tuple(spans)

    @property
    def num_tokens(self) -> int:
        return sum(self.lengths)

    def positions(self, device: torch.device) -> Tensor:
        """0, 1, 2, … within each row, [T]."""
        return torch.cat([torch.arange(n, device=device) for n in self.lengths])

    def targets(self, labels_T: Tensor, ignore: int = -100) -> tuple[Tensor, Tensor]:
        """Positions [N] that predict a target, and their targets [N].

        Position i predicts label i + 1 of the same row; labels are aligned with the inputs.
        """
        shifted = torch.full_like(labels_T, ignore)
        shifted[:-1] = labels_T[1:]
        ends = torch.tensor([start + length - 1 for start, length in self.spans])
        shifted[ends.to(labels_T.device)] = ignore
        positions_N = (shifted != ignore).nonzero().squeeze(1)
        return positions_N, shifted[positions_N]


_current: ContextVar[RowLayout | None] = ContextVar("rows being computed", default=None)


def current_layout() -> RowLayout | None:
    """The rows that are being computed end to end; None in a call of the ordinary kind."""
    return _current.get()


@contextmanager
def computing(lengths: Sequence[int]) -> Iterator[RowLayout]:
    """Inside, the model's attention keeps to these rows."""
    layout = RowLayout(tuple(lengths))
    token = _current.set(layout)
    try:
        yield layout
    finally:
        _current.reset(token)
