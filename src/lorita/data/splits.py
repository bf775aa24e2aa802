"""Which rows are trained on and which are held out, never with a duplicate on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Split:
    """Row numbers, counted from 0, and a sentence that explains how they were chosen."""

    train: list[int]
    held_out: list[int]
    how: str


def split_rows(
    num_rows: int,
    *,
    max_train_samples: int | None,
    eval_fraction: float | None,
    max_eval_samples: int,
    has_eval_data: bool,
    seed: int,
    groups: Sequence[int] | None = None,
) -> Split:
    """Choose the training rows and the held-out rows.

    With ``eval_data`` (``has_eval_data``) no other row is held out. An ``eval_fraction`` is drawn
    at random from the seed. Without one, the rows left over by ``max_train_samples`` are used,
    as they cost training nothing; otherwise a tenth, given at least ten rows. Rows of one group
    (``Duplicates.groups``; by default each row is its own) are held out together or not at all.
    """
    groups = range(num_rows) if groups is None else groups
    first = list(range(num_rows))[:max_train_samples]
    if has_eval_data or eval_fraction == 0:
        where = "held-out rows come from eval_data" if has_eval_data else "no rows are held out"
        return Split(first, [], where)
    if eval_fraction is None and len(first) < num_rows:
        return _rest(first, num_rows, max_eval_samples, groups)
    fraction = 0.1 if eval_fraction is None else eval_fraction
    count = min(round(fraction * len(first)), max_eval_samples, len(first) - 1)
    if eval_fraction is None and len(first) < 10:
        return Split(first, [], "fewer than ten rows, so none are held out")
    return _draw(first, max(count, 1) if len(first) > 1 else 0, seed, groups)


def unseen(train: Sequence[int], held_out: Sequence[int], groups: Sequence[int]) -> list[int]:
    """The held-out rows that do not duplicate a training row."""
    trained = {groups[row] for row in train}
    return [row for row in held_out if groups[row] not in trained]


def _rest(first: list[int], num_rows: int, most: int, groups: Sequence[int]) -> Split:
    rest = range(len(first), num_rows)
    held_out = unseen(first, rest, groups)[:most]
    how = f"held out: {len(held_out)} of the rows after the first {len(first)}"
    left = len(rest) - len(unseen(first, rest, groups))
    if left:
        how += f"; {left} that duplicate training rows were skipped"
    return Split(first, held_out, how)


def _draw(rows: list[int], count: int, seed: int, groups: Sequence[int]) -> Split:
    members: dict[int, list[int]] = {}
    for row in rows:
        members.setdefault(groups[row], []).append(row)
    drawn: set[int] = set()
    for i in _permutation(len(rows), seed):
        group = members.pop(groups[rows[i]], [])
        if len(drawn) + len(group) <= count:
            drawn |= set(group)
    held_out = [row for row in rows if row in drawn]
    train = [row for row in rows if row not in drawn]
    how = f"held out: {len(held_out)} of {len(rows)} rows, chosen at random (seed {seed})"
    if count and not held_out:
        how = "no rows are held out: every row is a near duplicate of too many others"
    return Split(train, held_out, how)


def _permutation(count: int, seed: int) -> list[int]:
    """``torch.randperm`` with this seed, without the seconds that importing torch takes.

    Both draw from the Mersenne Twister (MT19937, Matsumoto and Nishimura 1998) and exchange each
    place with a later one (Fisher and Yates).
    """
    from numpy.random import RandomState

    draw = RandomState(seed % 2**32).randint
    order = list(range(count))
    numbers = draw(2**32, size=max(count - 1, 0), dtype="uint32").tolist()
    for i, number in enumerate(numbers):
        j = i + number % (count - i)
        order[i], order[j] = order[j], order[i]
    return order
