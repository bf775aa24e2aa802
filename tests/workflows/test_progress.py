"""What people see while a run works: lines in a pipe, a bar in a terminal."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lorita.training.events import (
    CheckpointSaved,
    Evaluated,
    Event,
    Note,
    StepDone,
    TrainingEnded,
    TrainingStarted,
)
from lorita.workflows import progress

EVENTS: list[Event] = [
    Note("reading"),
    TrainingStarted(0, 3, 24, 4, 1234),
    *(StepDone(i, i / 3, 2.5 - i, 0.1, 1e-3, 100, 2.0) for i in (1, 2, 3)),
    Evaluated(3, 1.25),
    CheckpointSaved(3, Path("runs/x/checkpoint-3")),
    TrainingEnded(3, 6.0, 300),
]


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.show_progress(logging_steps=2) as show:
        for event in EVENTS:
            show(event)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["reading", "Training: 3 steps, 24 rows, 1,234 tokens per epoch"]
    steps = [line for line in lines if line.startswith("step") and "lr" in line]
    assert [line.split()[1] for line in steps] == ["2/3", "3/3"]
    assert "50 tokens/s" in steps[0]
    assert "2.0 s left" in steps[0]
    assert "step 3: held-out loss 1.2500" in lines
    assert lines[-1] == "Trained in 6.0 s, 50 tokens/s"


def test_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.show_progress() as show:
        for event in EVENTS:
            show(event)
    assert "Trained in 6.0 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.2, "4.2 s"), (42, "42 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text
