"""Run the command line as a user does: another process, its own environment."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from lorita.cli import run


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


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must be refused, and return what it said."""
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 2, captured.err
    assert "Traceback" not in captured.err
    # The run may have said what it is doing before it finds the mistake.
    _, found, message = f"\n{captured.err}".partition("\nError:")
    assert found, captured.err
    return message


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
