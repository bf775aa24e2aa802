"""A finished run is never lost to its report: closed, full and unread outputs, odd file names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.command import environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")


def shell(command: str, *, cwd: Path, **extra: str) -> tuple[int, str]:
    """The exit code of the last command of a pipeline that failed, and what was said."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("lorita", f"{sys.executable} -m lorita")],
        capture_output=True, text=True, errors="replace", cwd=cwd, env=environment(**extra),
        timeout=240, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def slow(value: str) -> ParameterSet:
    """One of several that differ little; each takes a process."""
    return pytest.param(value, marks=pytest.mark.slow)


@pytest.fixture
def train(llama: Path, prompts: Path, tmp_path: Path) -> str:
    shutil.copy(prompts, tmp_path / "rows.csv")
    return (
        f"lorita train --model {llama} --data rows.csv --text-field prompt --max-steps 1 "
        "--max-new-tokens 2 --no-proof --use-cpu --no-probe --output-dir run"
    )


@pytest.mark.parametrize(
    "redirected",
    ["2>&1 | head -1", ">/dev/full", *map(slow, ["| head -1", ">&- 2>&-", "2>/dev/full", "<&-"])],
)
def test_a_run_is_finished_whoever_reads(train: str, tmp_path: Path, redirected: str) -> None:
    code, said = shell(f"{train} {redirected}", cwd=tmp_path)
    assert code == 0, said
    assert (tmp_path / "run/lorita.json").is_file()
    assert "Traceback" not in said
    assert ("only the report was lost" in said) == (redirected == ">/dev/full")


@pytest.mark.parametrize("encoding", ["ascii", *map(slow, ["latin-1", "utf-16"])])
def test_an_encoding_without_the_characters(train: str, tmp_path: Path, encoding: str) -> None:
    rows = "".join(f"I act as 🦜 é number {number}\n" for number in range(12))
    (tmp_path / "rows.csv").write_text(f"prompt\n{rows}", encoding="utf-8")
    extra = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C"}
    code, said = shell(train, cwd=tmp_path, **extra)
    assert code == 0, said
    assert (tmp_path / "run/lorita.json").is_file()


def test_a_file_name_that_is_not_utf8(train: str, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.csv")
    try:
        (tmp_path / "rows.csv").rename(tmp_path / name)
    except OSError:
        pytest.skip("this file system has no such names")
    command = train.replace("rows.csv", "caf*.csv")
    code, said = shell(command.replace(" --output-dir run", ""), cwd=tmp_path)
    assert code == 0, said
    assert (tmp_path / "runs/caf_/lorita.json").is_file()
    (tmp_path / os.fsdecode(b"o\xe9")).mkdir()
    code, said = shell(command.replace("--output-dir run", "--output-dir o*"), cwd=tmp_path)
    assert code == 2 and "not UTF-8" in said


def test_a_command_that_only_prints(llama: Path, tmp_path: Path) -> None:
    code, said = shell(f"lorita targets {llama} >/dev/full", cwd=tmp_path)
    assert code == 1 and "standard output: cannot be written" in said
    code, said = shell("lorita --help | true", cwd=tmp_path)
    assert code == 0 and "Traceback" not in said
