"""The order in which workers get test files."""

from __future__ import annotations

from pathlib import Path

from tests import order

ROOT = Path(__file__).parent.parent


def test_what_is_ordered_exists() -> None:
    for place in order.LONGEST:
        assert (ROOT / place).exists(), place


def test_the_longest_come_first_and_files_stay_whole() -> None:
    given = [
        "tests/data/test_a.py::test_1",
        "tests/serving/test_b.py::test_2",
        "tests/docs/test_cards.py::test_3[a::b]",
    ]
    assert sorted(given, key=order.rank) == given[::-1]
    assert [order.together(test) for test in given] == [
        "tests/data/test_a.py",
        "tests/serving/test_b.py",
        "tests/docs/test_commands.py",
    ]
