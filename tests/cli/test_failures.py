"""An exception that nobody expected: one message, and the traceback in a file of the user alone."""

from __future__ import annotations

import errno
import stat
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from lorita.cli import failures
from lorita.cli import run as lorita


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def broken(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("lorita.cli.make_app", fail)


def test_a_bug(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken(monkeypatch, KeyError("lost"))
    assert lorita(["doctor"]) == 1
    said = capsys.readouterr().err
    (trace,) = place.iterdir()
    assert said.startswith("Error: this is a bug in lorita: KeyError: 'lost'\n")
    assert str(trace) in said and said.count("\n") == 2 and "Traceback" not in said
    text = trace.read_text(encoding="utf-8")
    assert "Command: lorita doctor" in text and "Traceback" in text and "lorita 0" in text
    assert stat.S_IMODE(trace.stat().st_mode) == 0o600


def test_where_no_file_can_be_written_the_traceback_is_shown(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place / "missing"))
    broken(monkeypatch, KeyError("lost"))
    assert lorita(["doctor"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("lorita 0") and "Traceback" in said
    assert "Error: this is a bug in lorita" in said and "the traceback above" in said


def test_developers_see_the_traceback_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "flags", SimpleNamespace(dev_mode=True))
    with pytest.raises(KeyError):
        failures.unexpected(KeyError("lost"), ["doctor"])


NO_BUGS: dict[str, tuple[BaseException, str]] = {
    "memory": (MemoryError(), "the memory was not enough"),
    "torch's memory": (
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        "the memory was not enough",
    ),
    "the system's memory": (OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough"),
    "a file that may not be read": (
        PermissionError(errno.EACCES, "Permission denied", "secret.csv"),
        "secret.csv: Permission denied",
    ),
    "a full disk": (OSError(errno.ENOSPC, "No space left on device", "a.bin"), "No space left"),
}


@pytest.mark.parametrize("case", NO_BUGS)
def test_what_is_no_bug(case: str, place: Path) -> None:
    error, said = NO_BUGS[case]
    message = failures.unexpected(error, ["train"])
    assert said in message and "bug" not in message and not list(place.iterdir())


def test_a_message_of_any_length_stays_a_message(place: Path) -> None:
    message = failures.unexpected(RuntimeError("x" * 10_000 + "\nsecond"), ["train"])
    assert len(message) < 700 and "second" not in message
    assert "nested too deeply" in failures.unexpected(RecursionError("maximum"), ["train"])
