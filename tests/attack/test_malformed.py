"""Broken files of every kind, put through the commands that read them: one message, no traceback.

These are a few of the cases; ``python -m tests.attack.malformed`` runs as many as one likes.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def attack(cases: int, seed: int) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.attack.malformed",
            "--cases",
            str(cases),
            "--seed",
            str(seed),
        ],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONUTF8": "1"},
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="watches processes through /proc")
def test_some() -> None:
    attack(cases=16, seed=7)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="watches processes through /proc")
def test_many() -> None:
    attack(cases=400, seed=8)
