"""Rows that begin with the same tokens: a system prompt, tools, examples, an instruction.

Which rows of a step do is found here, and they are laid out so that the beginning is there once.
The last token that they have in common stays in each row: what follows it differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from lorita.data.examples import IGNORE, Example

if TYPE_CHECKING:
    import torch

LEAST = 16
"""Shorter beginnings are computed in each row: finding and repeating them costs as much."""


@dataclass(frozen=True)
class Group:
    """Rows, by their index, whose first ``shared`` tokens are the same; one row shares nothing."""

    rows: tuple[int, ...]
    shared: int = 0


@dataclass(frozen=True)
class SharedRows:
    """Rows laid end to end, each beginning once; for ``engine.packed_model.packed_loss``.

    ``counts_T`` says in how many rows each label is a target.
    """

    ids_T: torch.Tensor
    labels_T: torch.Tensor
    counts_T: torch.Tensor
    lengths: list[int]
    continues: list[int | None]


def find_groups(rows: Sequence[Example]) -> list[Group]:
    """Which rows share a beginning, so that as few tokens as possible are computed.

    Every row is in one group. Groups, and the rows of each, are in the order of ``rows``.
    """
    # In this order, rows with a beginning in common are next to each other.
    order = sorted(range(len(rows)), key=lambda i: rows[i].input_ids)
    alike = [_alike(rows[i].input_ids, rows[j].input_ids) for i, j in pairwise(order)]
    # For the first n of them: the most tokens that can be saved, and where their last group starts.
    saved, starts = [0], [0]
    for end in range(1, len(order) + 1):
        saved.append(saved[end - 1])
        starts.append(end - 1)
        shared = len(rows[order[end - 1]].input_ids)
        for start in range(end - 2, -1, -1):
            shared = min(shared, alike[start] - 1)
            if shared < LEAST:
                break
            all_saved = saved[start] + (end - start - 1) * shared
            if all_saved > saved[end]:
                saved[end], starts[end] = all_saved, start
    groups, end = [], len(order)
    while end:
        start = starts[end]
        shared = min(alike[start : end - 1], default=1) - 1
        groups.append(Group(tuple(sorted(order[start:end])), shared))
        end = start
    return sorted(groups, key=lambda group: group.rows)


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens the two begin with in common."""
    both = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in both if a != b), min(len(one), len(other)))


def lay_out(rows: Sequence[Example], groups: Sequence[Group], device: torch.device) -> SharedRows:
    """The rows, each group's beginning once and before what its rows have of their own."""
    import torch

    ids: list[int] = []
    labels: list[int] = []
    counts: list[int] = []
    lengths: list[int] = []
    continues: list[int | None] = []
    for group in groups:
        members, shared, before = [rows[i] for i in group.rows], group.shared, None
        if shared:
            before = len(lengths)
            ids += members[0].input_ids[:shared]
            lengths.append(shared)
            continues.append(None)
            # The last shared token predicts the first own one, which is the same in all rows.
            of_all = [
                [label for label in column if label != IGNORE]
                for column in zip(*(row.labels[: shared + 1] for row in members), strict=True)
            ]
            labels += [found[0] if found else IGNORE for found in of_all]
            counts += [len(found) for found in of_all]
        for number, row in enumerate(members):
            own = row.labels[shared:]
            if shared:  # the first of them is predicted by the last shared token
                own = own[1:] if number == 0 else [IGNORE, *own[1:]]
            ids += row.input_ids[shared:]
            labels += own
            counts += [1] * len(own)
            lengths.append(len(row.input_ids) - shared)
            continues.append(before)
    ids_T, labels_T, counts_T = (torch.tensor(x).to(device) for x in (ids, labels, counts))
    return SharedRows(ids_T, labels_T, counts_T, lengths, continues)
