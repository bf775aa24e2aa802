"""Processes of jobs are forked from one that has imported everything."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.forks import forked_by


@pytest.fixture(scope="session", autouse=True)
def _forks() -> Iterator[None]:
    with forked_by("lorita.jobs.process"):
        yield
