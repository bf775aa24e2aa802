"""Malformed data: one message naming the file, the row or line, what was found and what to do.

The exit code is 2, and there is no traceback, no run folder, and never much memory in use.
"""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.bad_data import CHATS, FILES, GOOD, Make
from tests.command import environment, refused, write


def place(folder: Path, name: str, make: Make) -> None:
    if callable(make):
        make(folder)
    for file, content in (make if isinstance(make, dict) else {name: make}).items():
        if isinstance(content, bytes):
            (folder / file).parent.mkdir(exist_ok=True)
            write(folder / file, content)


def test_there_are_enough() -> None:
    assert len(FILES) + len(CHATS) + len(LARGE) >= 60


@pytest.mark.parametrize("case", FILES)
def test_files(case: str, llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, make, said = FILES[case]
    place(tmp_path, name, make)
    run = tmp_path / "run"
    data = str(tmp_path) + "/" + name
    command = ("train", "--model", llama, "--data", data, "--text-field", "text")
    message = refused(capsys, *command, "--output-dir", run)
    for part in said:
        assert part in message
    assert str(tmp_path) in message
    assert len(message) < 2000
    assert not run.exists()


@pytest.mark.parametrize("case", CHATS)
def test_chats(case: str, llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, said = CHATS[case]
    file = write(tmp_path / "a.jsonl", GOOD + content)
    run = tmp_path / "run"
    message = refused(
        capsys, "train", "--model", llama, "--data", file, "--output-dir", run, "--format", "openai"
    )
    for part in said:
        assert part in message
    assert "a.jsonl: row 2" in message
    assert not run.exists()


# --- files that could fill the memory -------------------------------------------------------------

MEGABYTE = 2**20


def write_large(path: Path, before: bytes, fill: bytes, megabytes: int, after: bytes = b"") -> None:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wb") as file:  # type: ignore[operator]
        file.write(before)
        for _ in range(megabytes):
            file.write(fill * (MEGABYTE // len(fill)))
        file.write(after)


LARGE: dict[str, tuple[str, bytes, bytes, int, str]] = {
    "one line of 200 MB": ("a.txt", b"", b"words ", 200, "line 1 is longer than 16 million"),
    "one cell of 200 MB": ("a.csv", b'text\n"', b"word\n", 200, "line 2: a cell is longer than"),
    "one json text of 200 MB": ("a.jsonl", b'{"text": "', b"x", 200, "line 1 is longer than"),
    "one list element of 200 MB": ("a.json", b'[{"text": "', b"x", 200, "row 1 (line 1) is longer"),
    "zip bomb of one line": ("a.txt.gz", b"", b"\0", 1000, "line 1 is longer than 16 million"),
    "zip bomb of blank lines": ("a.txt.gz", b"", b"\n", 100, "looks like a zip bomb"),
    "zip bomb of rows": ("a.csv.gz", b"text\n", b"x" * 1023 + b"\n", 1000, "looks like a zip bomb"),
}


QUICK = ("one line of 200 MB", "zip bomb of blank lines")


@pytest.mark.parametrize(
    "case",
    [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in LARGE],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory(case: str, llama: Path, tmp_path: Path) -> None:
    """The peak memory of the whole process, torch included, stays below 1 GB."""
    name, before, fill, megabytes, said = LARGE[case]
    write_large(tmp_path / name, before, fill, megabytes)
    command = ["train", "--model", str(llama), "--data", str(tmp_path / name)]
    code, message, peak = measured(*command, "--output-dir", str(tmp_path / "run"))
    assert (code, "Traceback" in message) == (2, False), message
    assert said in message
    assert name in message
    assert peak < 1e9


def measured(*arguments: str) -> tuple[int, str, int]:
    """Exit code, error output, and peak resident memory in bytes.

    The command reports its own peak, because the system's figure for a child includes its parent's.
    """
    code = (
        "import sys; from lorita.cli import run; code = run(sys.argv[1:]); "
        "print(open('/proc/self/status').read()); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False,
        env=environment(),
    )  # fmt: skip
    peak = re.search(r"VmHWM:\s+(\d+) kB", done.stdout)
    assert peak is not None, done.stderr
    return done.returncode, done.stderr, int(peak[1]) * 1024
