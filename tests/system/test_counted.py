"""Numbers of things, and the lines of a run that have them."""

from __future__ import annotations

import pytest

from lorita.system.counted import counted
from lorita.training.events import PhaseStarted, TrainingStarted
from lorita.workflows.progress import event_line


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1234, "1,234 rows")]
)
def test_counted(number: int, words: str) -> None:
    assert counted(number, "row") == words


def test_lines_of_one() -> None:
    assert event_line(PhaseStarted("Asking the base", 1, "answers")) == "Asking the base: 1 answer"
    assert event_line(PhaseStarted("Writing", 1, "tokens at most")) == "Writing: 1 token at most"
    assert event_line(PhaseStarted("Scoring", 2, "passages")) == "Scoring: 2 passages"
    started = TrainingStarted(
        first_step=0, max_steps=1, rows=1, held_out_rows=0, tokens_per_epoch=1000
    )
    assert event_line(started) == "Training: 1 step, 1 row, 1,000 tokens per epoch"
