"""Times as people type them, and what is none."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lorita.errors import SettingsError
from lorita.settings.build import build_settings


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [
        ("90s", 90), ("5m", 300), ("1h30m", 5400), ("5 min", 300), ("1.5h", 5400), ("2M", 120),
        ("1h0m5s", 3605), ("90", 90), (90, 90), (2.5, 2.5),
    ],
)  # fmt: skip
def test_a_time(typed: Any, seconds: float) -> None:
    assert build_settings(model="m", data="d", time_budget=typed).time_budget == seconds


@pytest.mark.parametrize(
    "typed",
    ["", "0", "0s", 0, -5, "-5m", "5x", "m", "1h30", "1m1h", "1:30", "soon", math.nan, math.inf,
     "nan", True, [5], "9" * 400],
)  # fmt: skip
def test_no_time(typed: Any) -> None:
    with pytest.raises(SettingsError, match="time_budget") as caught:
        build_settings(model="m", data="d", time_budget=typed)
    assert len(caught.value.problems) == 1


def test_what_is_measured_needs_a_probe() -> None:
    with pytest.raises(SettingsError, match="time_budget needs probe"):
        build_settings(model="m", data="d", time_budget="5m", probe=False)
