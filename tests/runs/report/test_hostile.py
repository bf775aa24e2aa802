"""Numbers in a run's files that no training writes: a report is made of them, and soon."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from lorita.errors import UserError
from lorita.runs.report.page import loss_file, loss_picture, page
from lorita.runs.report.plots import bars
from lorita.runs.report.story import read_story
from lorita.storage.run_log import LARGEST
from lorita.system.durations import duration
from tests.command import refused
from tests.runs.report import made

HUGE = (1e308, -1e308, 1e12, 5e-324, 10**299)
PAIRS = ((1e308, 1e308), (-1e308, 1e12), (1e12, 999999999999.9999), (5e-324, 10**299))


@contextmanager
def within(seconds: int) -> Iterator[None]:
    def late(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("figure", ["loss", "learning_rate", "step", "seconds"])
def test_figures_of_a_log(figure: str, tmp_path: Path) -> None:
    for number, (a, b) in enumerate(PAIRS):
        folder = tmp_path / str(number)
        folder.mkdir()
        steps = [{**step, figure: v} for step, v in zip(made.events(2)[2:4], (a, b), strict=True)]
        told = [
            {"event": "TrainingStarted", "max_steps": a, "first_step": 0}, *steps,
            {"event": "Evaluated", "step": 2, "loss": a},
            {"event": "Forecasted", "before": a, "training": b, "after": a, "peak_bytes": a},
            {"event": "TrainingEnded", "seconds": a},
        ]  # fmt: skip
        (folder / "log.jsonl").write_text("\n".join(map(json.dumps, told)))
        with within(20):
            story = read_story(folder)
            assert "</html>" in page(story)
            loss_file(story), loss_picture(story)


def test_lengths_of_rows() -> None:
    for a, b in product(HUGE, HUGE):
        with within(20):
            assert "<svg" in bars([a, b], ["0", "1"], label="rows", x="tokens")


def test_times() -> None:
    assert duration(1e308) == duration(float("inf")) == "277777 h 46 min"
    assert duration(-1) == "0.0 s" and duration(3725) == "1 h 02 min"


def test_a_log_that_is_no_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "log.jsonl").open("wb") as file:
        file.truncate(LARGEST + 1)
    assert "a log of at most" in refused(capsys, "report", tmp_path)
    with pytest.raises(UserError):
        read_story(tmp_path)
