"""Duplicates are found in any order and are never on both sides of a split."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorita.data.quality.duplicates import SHORT, find_duplicates
from lorita.data.rows import Chat, Message, Pair, Text
from lorita.data.splits import split_rows, unseen

WORDS = ["tea", "bread", "river", "garden", "stone", "bird", "winter", "letter", "road", "salt"]


def story(seed: int, length: int = 60) -> str:
    generator = random.Random(seed)
    return " ".join(generator.choice(WORDS) for _ in range(length))


def changed(text: str, place: int) -> str:
    words = text.split()
    words[place] = "parrot"
    return " ".join(words)


def test_exact_and_near() -> None:
    one = story(1)
    rows = [Text(t) for t in (story(0), one, one, changed(one, 30), one.upper() + " ", story(2))]
    found = find_duplicates(rows)
    assert found.groups == [0, 1, 1, 1, 1, 5]
    assert found.exact == [2]
    assert found.near == [3, 4]


def test_short_rows_that_differ_in_a_number_are_different() -> None:
    rows = [Pair(f"What is {i} and {i}?", f"It is {2 * i}.") for i in range(30)]
    assert len(rows[0].prompt.split()) < SHORT
    assert find_duplicates(rows).groups == list(range(30))
    assert find_duplicates([Text("Hello  there"), Text("hello there")]).near == [1]


def test_rows_with_the_same_system_message_are_not_duplicates() -> None:
    system = Message("system", story(9, 300))
    rows = [Chat((system, Message("user", story(i)), Message("assistant", "x"))) for i in range(9)]
    assert find_duplicates(rows).groups == list(range(9))


def test_rows_without_spaces_between_words() -> None:
    text = "我希望你充当面包师我会告诉你我有什么面粉和多少时间你会给我一个以克为单位的食谱"
    found = find_duplicates([Text(text), Text(text[:-1] + "谱吧"), Text(text[::-1])])
    assert found.groups == [0, 0, 2]


def test_many_near_duplicates_form_one_group() -> None:
    base = story(3, 200)
    rows = [Text(changed(base, i % 200)) for i in range(400)]
    found = find_duplicates(rows)
    assert set(found.groups) == {0}
    split = split_rows(400, **DEFAULTS, groups=found.groups)
    assert split.held_out == [] and len(split.train) == 400
    assert "near duplicate" in split.how


DEFAULTS = {
    "max_train_samples": None,
    "eval_fraction": None,
    "max_eval_samples": 100,
    "has_eval_data": False,
    "seed": 3,
}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=60),
    st.sampled_from([None, 0.1, 0.5]),
    st.sampled_from([None, 5, 20]),
    st.integers(0, 5),
)
def test_no_group_is_on_both_sides(
    labels: list[int], fraction: float | None, most: int | None, seed: int
) -> None:
    groups = [labels.index(label) for label in labels]
    given = {**DEFAULTS, "eval_fraction": fraction, "max_train_samples": most, "seed": seed}
    split = split_rows(len(labels), **given, groups=groups)  # type: ignore[arg-type]
    assert not {groups[i] for i in split.train} & {groups[i] for i in split.held_out}
    assert not set(split.train) & set(split.held_out)
    assert split.train


@pytest.mark.parametrize("seed", range(3))
def test_without_duplicates_the_seed_alone_decides(seed: int) -> None:
    import torch

    order = torch.randperm(50, generator=torch.Generator().manual_seed(seed)).tolist()
    split = split_rows(50, **{**DEFAULTS, "seed": seed}, groups=list(range(50)))  # type: ignore[arg-type]
    assert split.held_out == sorted(order[:5])


def test_rows_that_duplicate_training_rows_are_not_held_out() -> None:
    split = split_rows(6, **{**DEFAULTS, "max_train_samples": 3}, groups=[0, 1, 2, 1, 4, 2])  # type: ignore[arg-type]
    assert split.held_out == [4]
    assert "2 that duplicate training rows were skipped" in split.how
    assert unseen([0], [1, 2], [0, 0, 2]) == [2]
