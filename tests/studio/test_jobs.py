"""Runs are processes of their own, told apart by their folders."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lorita.storage.locks import LOCK_FILE, hold, holder
from lorita.studio import jobs as jobs_module
from lorita.studio.exports import download, export_command, ready
from lorita.studio.jobs import Jobs, printed_error
from lorita.studio.wishes import read_wish
from lorita.studio.words import Told
from lorita.studio.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "runs")


def begun(workspace: Workspace, name: str, **files: str) -> Path:
    folder = workspace.folder / name
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text(files.get("log", ""))
    return folder


def told(work: Any, *arguments: Any) -> str:
    with pytest.raises(Told) as found:
        work(*arguments)
    return found.value.key


def test_a_run_that_is_held_is_running_and_no_other_starts(workspace: Workspace) -> None:
    folder = begun(workspace, "first")
    jobs = Jobs(workspace)
    wish = read_wish(workspace, "rows.csv", {"model": "m", "name": "second"})
    assert jobs.state("first").kind == "stopped" and jobs.running() is None
    with hold(folder / LOCK_FILE, folder, advice=""):
        assert holder(folder / LOCK_FILE) == os.getpid()
        assert jobs.running() == "first" and jobs.state("first").kind == "starting"
        assert told(jobs.start, wish) == "already_training"
        assert told(jobs.resume, "first") == "already_training"
    assert holder(folder / LOCK_FILE) is None
    assert told(jobs.resume, "first") == "nothing_to_resume"
    assert told(jobs.stop, "first") == "not_running"
    for name in ("", "..", "../runs", "first/../first", "studio", "none"):
        assert told(jobs.stop, name) == told(jobs.resume, name) == "no_such_run"


def test_who_holds_a_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert holder(lock) is None
    here = socket.gethostname()
    for content, pid in (
        (b"{", 0), (b"[]", 0), (b'{"pid": "x"}', 0), (b"", 0),
        (json.dumps({"pid": 7, "host": "elsewhere"}).encode(), 0),
        (json.dumps({"pid": 7, "host": here}).encode(), 7),
    ):  # fmt: skip
        lock.write_bytes(content)
        assert holder(lock) is None  # nobody holds it
        with hold(lock, tmp_path, advice=""):
            lock.write_bytes(content)
            assert holder(lock) == pid


def test_stop_is_one_signal_and_a_failure_is_told(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for lorita: it counts signals, then ends like a command that failed."""
    code = (
        "import signal, sys, time\n"
        "seen = []\n"
        "signal.signal(signal.SIGINT, lambda *_: seen.append(1))\n"
        "print('ready', flush=True)\n"
        "while not seen: time.sleep(0.01)\n"
        "time.sleep(0.3)\n"
        "print('Error: it diverged', len(seen)); sys.exit(1)\n"
    )
    launched = []

    def launch(arguments: list[str], output: Path) -> Any:
        with output.open("wb") as file:
            launched.append(arguments)
            return subprocess.Popen([sys.executable, "-c", code], stdout=file)

    monkeypatch.setattr(jobs_module, "launch", launch)
    jobs = Jobs(workspace)
    wish = read_wish(workspace, "rows.csv", {"model": "m", "name": "first"})
    assert jobs.start(wish) == "first" and jobs.names() == ["first"]
    while "ready" not in workspace.output("first").read_text():
        pass
    assert told(jobs.start, wish) == "already_training"
    jobs.stop("first")
    jobs.stop("first")
    assert jobs.state("first").kind == "stopping"
    jobs._begun["first"].wait(10)
    state = jobs.state("first")
    assert state.kind == "failed" and state.message == "it diverged 1"
    assert launched == [wish.arguments()]
    assert signal.getsignal(signal.SIGINT) is not None


def test_the_last_error_of_an_output(tmp_path: Path) -> None:
    output = tmp_path / "out"
    for text, message in (
        ("", ""), ("all well\n", ""), ("x\nError: a\nhint\n", "a\nhint"),
        ("Error:\n- a\n- b", "- a\n- b"), ("no Error: here", ""),
    ):  # fmt: skip
        output.write_text(text)
        assert printed_error(output) == message
    assert printed_error(tmp_path / "none") == ""


def test_downloads_are_of_finished_runs_and_never_of_other_files(workspace: Workspace) -> None:
    folder = begun(workspace, "a b")
    (workspace.folder / "secret.txt").write_text("x")
    for name, kind in (
        ("a b", "adapter"), ("a b", "gguf"), ("..", "adapter"), ("a b", "../secret.txt"),
        ("secret.txt", "adapter"), ("studio", "adapter"), ("a b", "report"), ("none", "report"),
    ):  # fmt: skip
        assert told(download, workspace, name, kind) in ("no_such_run", "not_finished")
    assert ready(workspace, "a b") == []
    (folder / "lorita.json").write_text("{}")
    (folder / "checkpoint-3").mkdir()
    (folder / "checkpoint-3" / "big").write_text("x")
    (folder / "report.html").symlink_to(workspace.folder / "secret.txt")
    assert told(download, workspace, "a b", "report") == "no_such_run"
    path, name, temporary = download(workspace, "a b", "adapter")
    try:
        assert name == "a b.zip" and temporary
        shutil.unpack_archive(path, workspace.folder / "out", "zip")
        found = {p.name for p in (workspace.folder / "out").rglob("*") if p.is_file()}
        assert found == {"log.jsonl", "lorita.json"}
    finally:
        path.unlink()
    assert "'" in export_command(workspace, "a b", "gguf")
