"""Run the command line as a user does: another process, its own environment."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from lorita.cli import run
from tests.forks import start


@dataclass
class Outcome:
    code: int
    out: str
    err: str


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "COLUMNS": "120", "PYTHONUTF8": "1", **extra}


def lorita(*arguments: str | Path, cwd: Path | None = None, **extra: str) -> Outcome:
    return python("-m", "lorita", *arguments, cwd=cwd, **extra)


def python(
    *arguments: object, cwd: Path | None = None, seconds: float = 240, anew: bool = False,
    **extra: str,
) -> Outcome:  # fmt: skip
    """Run Python with these arguments to its end, in an environment with ``extra`` variables.

    ``anew``: as a process that has imported nothing yet (see ``tests.forks``).
    """
    process = start(
        arguments, environment(**extra), anew=anew, cwd=cwd, text=True, encoding="utf-8",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException:
            process.kill()
            raise
    return Outcome(process.returncode, out, err)


_THEN_MODULES = """
import sys
from lorita.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print("\\n" + " ".join(sys.modules))
"""


def with_imports(*arguments: str | Path) -> tuple[Outcome, set[str]]:
    """As ``lorita`` in a process that has imported nothing yet, and the modules that it imported.

    ``AssertionError`` if the command fails.
    """
    done = python("-c", _THEN_MODULES, *arguments, anew=True)
    assert done.code == 0, done.err
    said, _, imported = done.out.rstrip("\n").rpartition("\n")
    return Outcome(done.code, said, done.err), set(imported.split())


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
