"""Fifty runs that are killed again and again (``make torture``)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_killed_runs_end_as_if_they_had_not_been() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.slow.torture", "--runs", "50"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "50 of 50 runs ended with the same bytes" in done.stdout
