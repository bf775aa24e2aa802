"""A deadline: fewer steps where they take too long, and a schedule that still comes to its end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from lorita.training import deadline as module
from lorita.training.deadline import Deadline, shorten
from lorita.training.events import TrainingShortened
from lorita.training.loop import Pace
from lorita.training.optimizer import Masters, make_optimizer, make_schedule
from lorita.training.step import Trainee


class Alone:
    num_processes = 1


def trainee_for(kind: str, steps: int) -> Trainee:
    parameter = torch.nn.Parameter(torch.ones(1))
    masters = Masters({"w": parameter})
    optimizer = make_optimizer(masters.parameters, learning_rate=1.0)
    schedule = make_schedule(optimizer, kind, warmup_steps=2, max_steps=steps)
    return Trainee(torch.nn.Linear(1, 1), masters, optimizer, schedule)


def rates(trainee: Trainee, steps: int) -> Iterator[float]:
    for _ in range(steps):
        yield trainee.schedule.get_last_lr()[0]
        trainee.optimizer.step()
        trainee.schedule.step()


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
def test_the_rest_of_the_schedule_is_run_through_faster(kind: str) -> None:
    whole = list(rates(trainee_for(kind, 100), 101))
    trainee = trainee_for(kind, 100)
    first = list(rates(trainee, 40))
    shorten(trainee, 40, 100, 60)
    rest = list(rates(trainee, 21))
    assert first == whole[:40]
    assert rest == pytest.approx(whole[40::3])
    assert trainee.last_step(100) == 60


def test_shortened_twice() -> None:
    trainee = trainee_for("linear", 100)
    list(rates(trainee, 50))
    shorten(trainee, 50, 100, 75)
    list(rates(trainee, 5))
    shorten(trainee, 55, 75, 65)
    rest = list(rates(trainee, 11))
    assert rest[-1] == pytest.approx(0.0)
    assert all(a > b for a, b in itertools.pairwise(rest))
    assert trainee.last_step(100) == 65


def looks(
    seconds: list[float], monkeypatch: pytest.MonkeyPatch, **deadline: float
) -> tuple[list[TrainingShortened], int]:
    """The events and the last step of a training whose steps take these seconds."""
    clock = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    pace, trainee = Pace(len(seconds), 1, 1), trainee_for("linear", len(seconds))
    watch, found, step = Deadline(**deadline), list[Any](), 0
    while step < pace.max_steps:
        clock[0] += seconds[step]
        step += 1
        events = watch.look(step, pace, trainee, Alone())  # type: ignore[arg-type]
        while True:
            try:
                found.append(next(events))
            except StopIteration as end:
                pace = end.value
                break
    return found, step


def test_steps_as_expected_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looks([1.0] * 40, monkeypatch, at=40) == ([], 40)
    assert looks([1.02] * 40, monkeypatch, at=40, tolerance=2) == ([], 40)
    assert looks([1.0] * 3, monkeypatch, at=3) == ([], 3)
    assert looks([9.0], monkeypatch, at=1) == ([], 1)


def test_slower_steps_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    found, last = looks([1.0] * 20 + [4.0] * 20, monkeypatch, at=40)
    assert found[0].planned == 40 and found[-1].max_steps == last < 30
    assert 20 + 4 * (last - 20) <= 44
    assert [event.planned for event in found[1:]] == [event.max_steps for event in found[:-1]]


def test_a_deadline_that_has_passed_ends_with_a_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    found, last = looks([50.0] * 40, monkeypatch, at=10)
    assert found and last == found[-1].max_steps < 10
