"""The proof's price: at most a quarter of the training, and never too few rows."""

from __future__ import annotations

from lorita.data.examples import Example
from lorita.evaluation.proof_size import (
    LEAST_GENERAL,
    LEAST_HELD_OUT,
    LEAST_TRAINING,
    SHARE,
    ProofRows,
    choose_rows,
)
from lorita.training.forecast import EVALUATION_COST


def rows(count: int, tokens: int = 100) -> list[Example]:
    ids = list(range(tokens))
    return [Example(ids, ids, number) for number in range(count)]


WHOLE = ProofRows(rows(100), rows(90, 70), rows(32))


def test_a_long_training_is_measured_on_everything() -> None:
    chosen = choose_rows(WHOLE, 1_000_000)
    assert chosen == WHOLE
    assert chosen.line(WHOLE) is None


def test_a_short_one_on_what_an_interval_needs() -> None:
    chosen = choose_rows(WHOLE, 1_000)
    assert len(chosen.held_out) == LEAST_HELD_OUT
    assert len(chosen.general) == LEAST_GENERAL
    assert len(chosen.training) == LEAST_TRAINING
    assert f"{LEAST_HELD_OUT} of 100 held-out rows" in (chosen.line(WHOLE) or "")


def test_in_between_it_takes_at_most_its_share() -> None:
    for trained in (40_000, 55_000, 70_000, 90_000):
        chosen = choose_rows(WHOLE, trained)
        scored = 100 * (len(chosen.held_out) + len(chosen.training)) + 70 * len(chosen.general)
        assert 2 * EVALUATION_COST * scored <= SHARE * trained


def test_the_rows_are_spread_and_fewer_are_not_made_up() -> None:
    chosen = choose_rows(WHOLE, 1_000)
    numbers = [row.row for row in chosen.held_out]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] >= 90
    few = ProofRows(rows(4), [], rows(3))
    assert choose_rows(few, 1) == few
