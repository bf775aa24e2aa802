"""A measured ratio is true on a busy machine, or it says that it is not known."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from lorita.engine import measured
from lorita.engine.measured import Ratio, compare, measured_ratio


class Machine:
    """A clock, and work that takes longer in the moments in which other programs run."""

    def __init__(self, seed: int, busy: float) -> None:
        self.now, self.busy, self.random = 0.0, busy, random.Random(seed)

    def work(self, seconds: float) -> None:
        self.now += seconds * self.random.uniform(1, 1.02)
        if self.random.random() < self.busy:
            self.now += self.random.expovariate(1 / 0.01)


@pytest.mark.parametrize("busy", [0.0, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("true", [0.7, 1.28, 2.0])
def test_true_or_not_known(busy: float, true: float) -> None:
    """Of 50 measurements none is wrong; on a machine that is not too busy few are unknown."""
    unknown = 0
    for seed in range(50):
        machine = Machine(seed, busy)
        found = compare(
            lambda m=machine: m.work(0.001 * true),  # type: ignore[misc]
            lambda m=machine: m.work(0.001),  # type: ignore[misc]
            lambda m=machine: m.now,  # type: ignore[misc]
        )
        verdict = found.at_least(1.2)
        assert verdict in (None, true >= 1.2), found
        assert found.is_wide or found.middle == pytest.approx(true, rel=0.2)
        unknown += verdict is None
    assert unknown <= {0.0: 0, 0.3: 2, 0.7: 35, 0.95: 50}[busy]


def test_long_runs_end_soon() -> None:
    machine = Machine(0, 0.0)
    found = compare(lambda: machine.work(0.02), lambda: machine.work(1.0), lambda: machine.now)
    assert found.high == pytest.approx(0.02, rel=0.1)
    assert machine.now < 3


@contextlib.contextmanager
def load(programs: int) -> Iterator[None]:
    """Other programs that compute all the time."""
    running = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)
    ]
    try:
        yield
    finally:
        for program in running:
            program.kill()
            program.wait()


def test_under_load() -> None:
    """Three times the work takes clearly longer, or it is not known. How much longer is not told
    well where the longer run is interrupted each time and the shorter one is not."""
    x, w = torch.randn(64, 256), torch.randn(256, 256)

    def work(times: int) -> None:
        for _ in range(times):
            torch.nn.functional.linear(x, w)

    with load(3):
        found = [compare(lambda: work(30), lambda: work(10)) for _ in range(3)]
    for ratio in found:
        assert ratio.at_least(1.2) is not False, ratio
        assert ratio.is_wide or ratio.middle > 2, ratio


def test_every_way_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "SECONDS", 0.0)
    assert measured_ratio("bf16").high > 0
    assert measured_ratio("int8", "bf16").high > 0


def test_in_words() -> None:
    assert str(Ratio(1.26, 1.31)) == "1.3"
    assert str(Ratio(0.9, 1.6)) == "0.9 to 1.6"
    assert str(Ratio(0.01, 0.02)) == "less than 0.1"
