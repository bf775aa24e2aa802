"""Where each row starts and ends when rows are packed end to end.

The layout of the current call is kept in a context variable: transformers' own layers are between
the call and the attention, and do not pass it on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

ONE_BLOCK = 512
"""Rows up to this length are one block of attention, together with rows of similar length."""
ALIKE = 0.8
"""Rows at least this fraction of the longest row share its bucket. Their attention is padded to the
longest: little extra work, and one product for many rows makes far better use of the cores."""


@dataclass(frozen=True)
class Bucket:
    """Rows that attention computes together, each in ``length`` slots, starting at ``start``."""

    start: int
    rows: int
    length: int

    @property
    def stop(self) -> int:
        """The slot after the last."""
        return self.start + self.rows * self.length


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
        """Tokens of all rows together."""
        return sum(self.lengths)

    @cached_property
    def _plan(self) -> tuple[tuple[Bucket, ...], dict[int, tuple[Bucket, int]]]:
        """The buckets, and for each row its bucket and its place there, longest row first."""
        order = sorted(range(len(self.lengths)), key=lambda row: -self.lengths[row])
        buckets: list[Bucket] = []
        places: dict[int, tuple[Bucket, int]] = {}
        while order:
            longest = self.lengths[order[0]]
            least = longest if longest > ONE_BLOCK else ALIKE * longest
            members = [row for row in order if self.lengths[row] >= least]
            members = members[:1] if longest > ONE_BLOCK else members
            order = order[len(members) :]
            bucket = Bucket(buckets[-1].stop if buckets else 0, len(members), longest)
            buckets.append(bucket)
            places.update((row, (bucket, place)) for place, row in enumerate(members))
        return tuple(buckets), places

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """The rows grouped by length, longest first."""
        return self._plan[0]

    @property
    def num_slots(self) -> int:
        """Slots of one head: the tokens, plus the padding inside buckets."""
        return self.buckets[-1].stop

    def slots(self, heads: int) -> tuple[Tensor, Tensor]:
        """For each token, its slot in head 0 and the distance to its slot in the next head.

        A bucket holds [rows, heads, length] slots: head ``h`` of token ``t`` is in slot
        ``first[t] + h · step[t]``. Both [T] int64, on the CPU.
        """
        known = self.__dict__.setdefault("_slots", {})
        if heads not in known:
            first, step = [], []
            for row, length in enumerate(self.lengths):
                bucket, place = self._plan[1][row]
                begin = heads * (bucket.start + place * bucket.length)
                first.append(torch.arange(begin, begin + length))
                step.append(torch.full((length,), bucket.length))
            known[heads] = (torch.cat(first), torch.cat(step))
        return known[heads]  # type: ignore[no-any-return]

    def row_slots(self, heads: int) -> tuple[Tensor, Tensor, Tensor]:
        """For each row, longest first: its first slot in head 0, the distance to the first slot in
        the next head, and its length. Each [rows] int64, on the CPU."""
        known = self.__dict__.setdefault("_row_slots", {})
        if heads not in known:
            places = self._plan[1]  # already in this order
            first = [heads * (b.start + place * b.length) for b, place in places.values()]
            known[heads] = (
                torch.tensor(first),
                torch.tensor([bucket.length for bucket, _ in places.values()]),
                torch.tensor([self.lengths[row] for row in places]),
            )
        return known[heads]  # type: ignore[no-any-return]

    def positions(self, device: torch.device) -> Tensor:
        """0, 1, 2, … within each row, [T]."""
        return torch.cat([torch.arange(n, device=device) for n in self.lengths])

    def targets(self, labels_T: Tensor, ignore: int = -100) -> tuple[Tensor, Tensor]:
        """Positions [N] that predict a target, and their targets [N].

        ``labels_T`` is aligned with the inputs: position i predicts label i + 1 of the same row.
        """
        shifted = torch.full_like(labels_T, ignore)
        shifted[:-1] = labels_T[1:]
        ends = torch.tensor([start + length - 1 for start, length in self.spans])
        shifted[ends.to(labels_T.device)] = ignore
        positions_N = (shifted != ignore).nonzero().squeeze(1)
        return positions_N, shifted[positions_N]


_current: ContextVar[RowLayout | None] = ContextVar("rows being computed", default=None)


def current_layout() -> RowLayout | None:
    """The layout of the current packed call; None in an ordinary call."""
    return _current.get()


@contextmanager
def computing(lengths: Sequence[int]) -> Iterator[RowLayout]:
    """In this context, no token attends to another row's."""
    layout = RowLayout(tuple(lengths))
    token = _current.set(layout)
    try:
        yield layout
    finally:
        _current.reset(token)
