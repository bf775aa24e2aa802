"""Where each row starts and ends when rows are packed end to end.

A row may continue an earlier one: several rows that begin with the same tokens are that beginning,
once, and what each has of its own.

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
    """Rows of these lengths, one after another.

    ``continues`` is empty, or has for each row the number of the row whose tokens come before its
    own; None for a row that begins by itself, as a continued one must. A continued row is followed
    by one that continues it. ``ValueError`` otherwise.

    ``before`` is empty, or has for each row how many tokens come before its own that are not here:
    their keys and values were kept. Not both.
    """

    lengths: tuple[int, ...]
    continues: tuple[int | None, ...] = ()
    before: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the rows that others continue."""
        for continued in {before for before in self.continues if before is not None}:
            after = self.continues[continued + 1 : continued + 2]
            if self.continues[continued] is not None or after != (continued,):
                raise ValueError("a continued row must begin by itself, right before another")
        if self.before and (self.continues or len(self.before) != len(self.lengths)):
            raise ValueError("tokens come before every row or before none, and are all kept")

    @cached_property
    def skipped(self) -> tuple[int, ...]:
        """For each row, the number of tokens that come before its own."""
        if self.before:
            return self.before
        if not self.continues:
            return (0,) * len(self.lengths)
        return tuple(0 if n is None else self.lengths[n] for n in self.continues)

    @cached_property
    def full(self) -> RowLayout:
        """Each row at its full length: the keys that its queries may attend to."""
        if not self.continues and not self.before:
            return self
        both = zip(self.skipped, self.lengths, strict=True)
        return RowLayout(tuple(before + own for before, own in both))

    @cached_property
    def sources(self) -> Tensor:
        """For each token of ``full``, which token it is here. [tokens of ``full``] int64, CPU."""
        own = torch.arange(self.num_tokens).split(list(self.lengths))
        if not self.continues:
            return torch.cat(own)
        before = [own[0][:0] if n is None else own[n] for n in self.continues]
        return torch.cat([piece for both in zip(before, own, strict=True) for piece in both])

    @cached_property
    def own(self) -> Tensor:
        """For each token, its place in ``full``. [T] int64, on the CPU."""
        starts = zip(self.full.spans, self.skipped, self.lengths, strict=True)
        return torch.cat([torch.arange(s + skip, s + skip + n) for (s, _), skip, n in starts])

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

    @property
    def num_key_slots(self) -> int:
        """Slots of one head of the keys that attention is given: with what was kept before them."""
        return self.full.num_slots if self.before else self.num_slots

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

    def row_slots(self, heads: int) -> tuple[Tensor, ...]:
        """Where the kernel of attention finds each row, those with the most work first.

        The slot of its first query in head 0, and the distance to that in the next head; the same
        for the first key, in the slots of ``full``; the number of keys, and of those before the
        first query. Each [rows] int64, on the CPU.
        """
        known = self.__dict__.setdefault("_row_slots", {})
        if heads not in known:
            full, places = self.full, self._plan[1]  # longest first
            order = sorted(places, key=lambda row: -self.lengths[row] * full.lengths[row])
            columns = [(*self._first(row, heads), *full._first(row, heads)) for row in order]
            known[heads] = (
                *torch.tensor(columns).T.contiguous(),
                torch.tensor([full.lengths[row] for row in order]),
                torch.tensor([self.skipped[row] for row in order]),
            )
        return known[heads]  # type: ignore[no-any-return]

    def _first(self, row: int, heads: int) -> tuple[int, int]:
        """The first slot of a row in head 0, and the distance to its first slot in the next."""
        bucket, place = self._plan[1][row]
        return heads * (bucket.start + place * bucket.length), bucket.length

    def repeated_slots(self, heads: int) -> Tensor:
        """For each slot of ``full``, the slot here with the same token; 0 if it holds none.

        [slots of ``full`` times ``heads``] int64, on the CPU.
        """
        known = self.__dict__.setdefault("_repeated", {})
        if heads not in known:
            known[heads] = _matched(self.full, self, self.sources, heads)
        return known[heads]  # type: ignore[no-any-return]

    def own_slots(self, heads: int) -> Tensor:
        """For each slot, the slot of ``full`` with the same token; 0 if it holds none.

        [slots times ``heads``] int64, on the CPU.
        """
        known = self.__dict__.setdefault("_own_slots", {})
        if heads not in known:
            known[heads] = _matched(self, self.full, self.own, heads)
        return known[heads]  # type: ignore[no-any-return]

    def slots_after_kept(self, heads: int) -> Tensor:
        """For each slot of ``full``, where its token is among all slots of ``heads`` here, followed
        by the kept tokens, row by row, each with its heads; 0 if it holds none.

        [slots of ``full`` times ``heads``] int64, on the CPU.
        """
        known = self.__dict__.setdefault("_after_kept", {})
        if heads not in known:
            head, full = torch.arange(heads), self.full
            first, step = (t[:, None] for t in self.slots(heads))
            kept = torch.ones(full.num_tokens, dtype=torch.bool).index_fill(0, self.own, False)
            source = torch.empty((full.num_tokens, heads), dtype=torch.int64)
            source[self.own] = first + step * head
            source[kept] = heads * self.num_slots + torch.arange(heads * sum(self.before)).view(
                -1, heads
            )
            first, step = (t[:, None] for t in full.slots(heads))
            found = torch.zeros(heads * full.num_slots, dtype=torch.int64)
            found[first + step * head] = source
            known[heads] = found
        return known[heads]  # type: ignore[no-any-return]

    def positions(self, device: torch.device) -> Tensor:
        """0, 1, 2, … within each row, after what it continues, [T]."""
        both = zip(self.skipped, self.lengths, strict=True)
        return torch.cat([torch.arange(n, n + own, device=device) for n, own in both])

    def targets(self, labels_T: Tensor, ignore: int = -100) -> tuple[Tensor, Tensor]:
        """Positions [N] that predict a target, and their targets [N].

        ``labels_T`` is aligned with the inputs: position i predicts label i + 1 of the same row,
        and the last of a continued row the first label of the row after it.
        """
        shifted = torch.full_like(labels_T, ignore)
        shifted[:-1] = labels_T[1:]
        continued = set(self.continues)
        ends = torch.tensor(
            [start + n - 1 for row, (start, n) in enumerate(self.spans) if row not in continued]
        )
        shifted[ends.to(labels_T.device)] = ignore
        positions_N = (shifted != ignore).nonzero().squeeze(1)
        return positions_N, shifted[positions_N]


def _matched(to: RowLayout, of: RowLayout, tokens: Tensor, heads: int) -> Tensor:
    """For each slot of ``to``, that of ``of`` with the same token, which is ``tokens[t]`` there."""
    head = torch.arange(heads)
    first, step = (t[:, None] for t in to.slots(heads))
    their_first, their_step = (t[tokens, None] for t in of.slots(heads))
    found = torch.zeros(heads * to.num_slots, dtype=torch.int64)
    found[first + step * head] = their_first + their_step * head
    return found


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
