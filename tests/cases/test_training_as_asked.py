"""What stands before an answer in training is what generation puts there, under every template."""

from __future__ import annotations

import pytest

from tests.cases.chat_kinds import KINDS, check, outcome, templates

ORIGINAL = [name for name in templates() if not name.endswith("_training")]
PLAIN = ("plain", "several turns")
"""Kinds that every template takes."""


@pytest.mark.parametrize("name", ORIGINAL)
def test_answers_are_trained_as_they_are_asked_for(name: str) -> None:
    for kind, row in KINDS.items():
        found = outcome(templates()[name], row)
        if kind in PLAIN:
            assert not found.refused, (kind, found.refused)
        if not found.refused:
            check(found)


def test_there_are_many_templates() -> None:
    assert len(ORIGINAL) >= 40
