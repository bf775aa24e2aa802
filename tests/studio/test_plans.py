"""What windows ask at the same time is found out once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from lorita.errors import DataError
from lorita.settings.build import build_settings
from lorita.studio import plans as module
from lorita.studio.plans import Outdated, Plans
from lorita.studio.tools import MODEL_WORK
from lorita.studio.words import Told


class Asked:
    """Counts what was asked, and how much of it at the same time."""

    def __init__(self) -> None:
        self.probes: list[bool] = []
        self.now = self.most = 0

    def plan(self, settings: Any) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.02)
        self.now -= 1
        self.probes.append(settings.probe)
        if settings.data == ["broken.csv"]:
            raise DataError("broken")
        return object()


def wish(data: str = "rows.csv", **options: Any) -> Any:
    given = {"model": "smollm2-135m", "data": [data], **options}
    return SimpleNamespace(options=given, settings=build_settings(**given))


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def plans(asked: Asked) -> Plans:
    return Plans(asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", ["reckoned", "timed"])
def test_one_answer_for_all_windows(way: str, plans: Plans, asked: Asked) -> None:
    ask = getattr(plans, way)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(ask, [wish(output_dir=f"runs/{n}") for n in range(6)]))
    assert asked.probes == [way == "timed"]
    assert all(plan is found[0] for plan in found)
    assert ask(wish(r=4)) is not found[0]
    assert asked.most == 1


@pytest.mark.parametrize("way", ["reckoned", "timed"])
def test_what_is_not_wanted_any_more_is_not_found_out(way: str, plans: Plans, asked: Asked) -> None:
    with pytest.raises(Outdated):
        getattr(plans, way)(wish(), lambda: False)
    assert not asked.probes
    getattr(plans, way)(wish(), lambda: True)
    assert len(asked.probes) == 1


def test_a_plan_from_shapes_does_not_stay_for_long(
    plans: Plans, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans.reckoned(wish())
    monkeypatch.setattr(module, "FRESH", 0.0)
    plans.reckoned(wish())
    assert len(asked.probes) == 2


def test_what_failed_is_asked_again(plans: Plans, asked: Asked) -> None:
    for _ in range(2):
        for ask in (plans.reckoned, plans.timed):
            with pytest.raises(DataError):
                ask(wish("broken.csv"))
    assert len(asked.probes) == 4
    assert MODEL_WORK.acquire(timeout=1)
    MODEL_WORK.release()


def test_a_busy_processor_is_told(plans: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    with MODEL_WORK, pytest.raises(Told):
        plans.timed(wish())
    assert plans.known(wish()) is None


def test_freed_memory_is_given_back(plans: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of a server keep what was freed in them: a gigabyte for each window, once."""
    released: list[str] = []
    monkeypatch.setattr(
        module, "release_freed", lambda: released.append(threading.current_thread().name)
    )
    plans.reckoned(wish())
    plans.timed(wish())
    assert len(released) == 2
