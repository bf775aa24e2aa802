"""Rows that begin with the same tokens: which they are, and how they are laid out."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
import torch

from lorita.data import shared_beginnings
from lorita.data.batches import micro_batches
from lorita.data.examples import IGNORE, Example
from lorita.data.shared_beginnings import Group, find_groups, lay_out

CPU = torch.device("cpu")
SYSTEM, TOOLS = list(range(100, 130)), list(range(200, 240))


def row(*pieces: list[int], masked: int = 0, number: int = 0) -> Example:
    ids = [token for piece in pieces for token in piece]
    return Example(ids, [IGNORE] * masked + ids[masked:], number)


def test_groups_of_several_beginnings_in_the_order_of_the_rows() -> None:
    rows = [
        row(SYSTEM, [1, 2]), row([5] * 40), row(TOOLS, [1]), row(SYSTEM, [3]), row(TOOLS, [2, 2]),
        row(SYSTEM, [4, 4, 4]),
    ]  # fmt: skip
    assert find_groups(rows) == [
        Group((0, 3, 5), 29),  # the last common token stays in each row
        Group((1,)),
        Group((2, 4), 39),
    ]


def test_the_same_row_twice_and_rows_that_another_begins_with() -> None:
    assert find_groups([row(SYSTEM), row(SYSTEM)]) == [Group((0, 1), 29)]
    assert find_groups([row(SYSTEM), row(SYSTEM, [1])]) == [Group((0, 1), 29)]


def test_a_short_beginning_is_not_shared() -> None:
    rows = [row([7] * 10, [i] * 30) for i in range(4)]
    assert find_groups(rows) == [Group((i,)) for i in range(4)]
    assert find_groups([]) == []


def test_as_few_tokens_as_possible_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against all ways to divide a few rows with beginnings inside beginnings."""
    monkeypatch.setattr(shared_beginnings, "LEAST", 2)
    chance = random.Random(3)
    for _ in range(60):
        rows = [
            row([chance.randrange(2) for _ in range(chance.randrange(4, 12))]) for _ in "123456"
        ]
        rows.sort(key=lambda r: r.input_ids)
        best = 0
        for count in range(len(rows)):
            for cuts in combinations(range(1, len(rows)), count):
                parts = [rows[a:b] for a, b in zip((0, *cuts), (*cuts, len(rows)), strict=True)]
                best = max(best, sum(_saved(part) for part in parts))
        found = find_groups(rows)
        assert sum(group.shared * (len(group.rows) - 1) for group in found) == best
        for group in found:
            begins = {tuple(rows[i].input_ids[: group.shared]) for i in group.rows}
            assert len(begins) == 1
            assert all(len(rows[i].input_ids) > group.shared for i in group.rows)


def _saved(part: list[Example]) -> int:
    shared = 0
    while len({tuple(r.input_ids[: shared + 1]) for r in part if len(r.input_ids) > shared}) == 1:
        if any(len(r.input_ids) <= shared for r in part):
            break
        shared += 1
    return (len(part) - 1) * (shared - 1) if shared - 1 >= 2 else 0


def test_a_label_counts_once_for_each_row_that_has_it() -> None:
    rows = [row(SYSTEM, [1, 2]), row(SYSTEM, [3], masked=20), row(SYSTEM, [4], masked=31)]
    laid = lay_out(rows, find_groups(rows), CPU)
    assert laid.lengths == [29, 3, 2, 2]
    assert laid.continues == [None, 0, 0, 0]
    assert laid.ids_T.tolist() == [*SYSTEM[:29], 129, 1, 2, 129, 3, 129, 4]
    assert laid.labels_T.tolist() == [*SYSTEM[:29], 129, 1, 2, IGNORE, 3, IGNORE, IGNORE]
    counted = laid.counts_T[laid.labels_T != IGNORE]
    assert counted.tolist() == [1] * 20 + [2] * 10 + [1, 1, 1]


def test_micro_batches_count_a_beginning_once() -> None:
    rows = [row(SYSTEM, [i] * 5) for i in range(6)] + [row(TOOLS, [i]) for i in range(2)]
    (all_at_once,) = micro_batches(rows, 1000, sharing=True)
    assert all_at_once.num_tokens == 6 * 35 + 2 * 41
    assert all_at_once.computed_tokens == 29 + 6 * 6 + 39 + 2 * 2
    batches = micro_batches(rows, 54, sharing=True)
    assert [len(batch.examples) for batch in batches] == [4, 2, 2]
    assert all(batch.computed_tokens <= 54 for batch in batches)
    alone = micro_batches(rows, 36, sharing=True)  # no room for a second row
    assert [len(batch.examples) for batch in alone[:6]] == [1] * 6
    assert not any(batch.groups for batch in alone)


def test_without_anything_to_share_nothing_changes() -> None:
    rows = [row([i] * (20 + i)) for i in range(9)]
    assert micro_batches(rows, 64, sharing=True) == micro_batches(rows, 64)
    alike = [row(SYSTEM, [i]) for i in range(4)]
    assert not any(batch.groups for batch in micro_batches(alike, 1000))
