"""The rules for how long to train: what holds for them whatever their numbers are."""

from __future__ import annotations

import itertools

import pytest

from lorita.training.schedule import (
    LARGEST_STEP,
    LEAST_STEPS,
    LEAST_WATCHED_STEPS,
    MOST_EPOCHS,
    MOST_EVALUATIONS,
    STEP_TOKENS,
    beta2_for,
    evaluation_steps,
    patience_for,
    schedule_for,
)

SIZES = [1, 2, 9, 20, 50, 99, 100, 499, 500, 5000, 10**6]


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("length", [1, 100, 2048, 10**6])
def test_steps_and_epochs(rows: int, length: int) -> None:
    found = schedule_for(rows, rows * length)
    steps = -(-rows // found.rows_per_step) * found.epochs
    assert 1 <= found.rows_per_step <= LARGEST_STEP and 1 <= found.epochs <= MOST_EPOCHS
    assert found.rows_per_step == 1 or found.rows_per_step * length <= STEP_TOKENS
    assert steps >= LEAST_STEPS or found.epochs == MOST_EPOCHS


def test_more_rows_are_never_seen_more_often_nor_in_smaller_steps() -> None:
    found = [schedule_for(rows, 100 * rows) for rows in SIZES]
    for few, many in itertools.pairwise(found):
        assert few.rows_per_step <= many.rows_per_step and few.epochs >= many.epochs


def test_a_chosen_step_size_decides_about_epochs() -> None:
    assert schedule_for(50, 5000, rows_per_step=50).epochs == MOST_EPOCHS
    assert schedule_for(50, 5000, rows_per_step=1).epochs == 1


def test_beta2_forgets_after_equally_many_tokens() -> None:
    for tokens in (400, 800, 3200):
        assert beta2_for(tokens) ** 2 == pytest.approx(beta2_for(2 * tokens), abs=3e-5)
    assert 0 < beta2_for(10**9) < beta2_for(1000) < beta2_for(0) < 1


def test_evaluations_cost_little_or_there_are_none() -> None:
    assert evaluation_steps(200, 10**6, 1) == 200 // MOST_EVALUATIONS
    assert evaluation_steps(200, 10**6, 0) is None
    assert evaluation_steps(LEAST_WATCHED_STEPS - 1, 10**6, 1) is None
    assert evaluation_steps(200, 1000, 1000) is None  # one costs nearly half of the training
    few = evaluation_steps(200, 100_000, 4000)
    assert few is not None and few > 200 // MOST_EVALUATIONS


def test_patience_lasts_a_part_of_the_run() -> None:
    assert patience_for(100, 10) == 3
    assert patience_for(100, 1) == 25
