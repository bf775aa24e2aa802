"""Run the command line as a user does: another process, its own environment."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Outcome:
    code: int
    out: str
    err: str


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "COLUMNS": "120", "PYTHONUTF8": "1", **extra}


def lorita(*arguments: str | Path, cwd: Path | None = None, **extra: str) -> Outcome:
    done = subprocess.run(
        [sys.executable, "-m", "lorita", *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=cwd,
        env=environment(**extra),
        timeout=240,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)
