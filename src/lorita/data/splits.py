"""Which rows are trained on and which are held out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Split:
    """Row numbers, counted from 0, and the sentence that says how they were chosen."""

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
) -> Split:
    """Choose the held-out rows.

    Rows of their own (``eval_data``) leave all others to training. A given ``eval_fraction`` is
    drawn by the seed. Else rows that ``max_train_samples`` leaves over cost training nothing and
    are taken; else a tenth, if there are ten rows.
    """
    first = list(range(num_rows))[:max_train_samples]
    if has_eval_data or eval_fraction == 0:
        where = "rows of their own are held out" if has_eval_data else "no row is held out"
        return Split(first, [], where)
    if eval_fraction is None and len(first) < num_rows:
        rest = list(range(len(first), num_rows))[:max_eval_samples]
        return Split(first, rest, f"held out: {len(rest)} of the rows after the first {len(first)}")
    fraction = 0.1 if eval_fraction is None else eval_fraction
    count = min(round(fraction * len(first)), max_eval_samples, len(first) - 1)
    if eval_fraction is None and len(first) < 10:
        return Split(first, [], "fewer than ten rows: none is held out")
    return _draw(first, max(count, 1) if len(first) > 1 else 0, seed)


def _draw(rows: list[int], count: int, seed: int) -> Split:
    import torch

    generator = torch.Generator().manual_seed(seed)
    drawn = set(torch.randperm(len(rows), generator=generator)[:count].tolist())
    held_out = [row for i, row in enumerate(rows) if i in drawn]
    train = [row for i, row in enumerate(rows) if i not in drawn]
    return Split(train, held_out, f"held out: {count} of {len(rows)} rows, drawn by the seed")
