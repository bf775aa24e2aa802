"""A killed server: the next one goes on with its job, and cleans up what was half written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lorita
from lorita.errors import OutputError
from lorita.jobs.desk import Desk
from lorita.jobs.process import held
from lorita.jobs.records import (
    CANCELLED,
    FAILED,
    PAUSED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    TRAINING_FILE,
    Job,
    JobEvent,
)
from lorita.jobs.supervisor import MOST_CRASHES
from lorita.jobs.work_folder import DATA_FOLDER, LOCK, SETTINGS
from tests.command import environment, write
from tests.forks import start
from tests.jobs.killed import open_desk, request
from tests.serving.conftest import save_chat_model
from tests.serving.jobs import EPOCHS, QUICK, chats


def until(condition: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_chat_model(tmp_path_factory.mktemp("jobs") / "base"))


@pytest.fixture
def desk(base: str, tmp_path: Path) -> Iterator[Desk]:
    """A desk whose jobs do not begin by themselves."""
    it = open_desk(tmp_path, base)
    yield it
    it.stop()


def test_killed_during_a_job_and_during_an_upload(base: str, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    data = write(tmp_path / "chats.jsonl", chats())
    server = start(
        ["-m", "tests.jobs.killed", runs, base, data], environment(),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    job, file = server.stdout.readline().split()
    work = runs / DATA_FOLDER / "work" / job
    until(lambda: held(work))
    server.kill()
    server.wait()
    server.stdout.close()
    files = runs / DATA_FOLDER / "files"
    assert len(list(files.iterdir())) == 2  # one of them half written
    process = json.loads((work / LOCK).read_text())["pid"]

    desk = open_desk(runs, base)  # the training process has outlived its server
    desk.start()
    try:
        assert [path.name for path in files.iterdir()] == [file]
        log = next(iter(runs.glob("ft-*")), runs) / "log.jsonl"

        def told(text: str) -> bool:
            return any(text in event.message for event in desk.events(job, None, 1000)[0])

        until(lambda: told("Checkpoint created at step 12"))
        log = next(runs.glob("ft-*")) / "log.jsonl"
        assert json.loads((work / LOCK).read_text())["pid"] == process  # not run twice
        os.kill(process, signal.SIGKILL)
        until(lambda: desk.job(job).status == SUCCEEDED)
        assert told("ended from outside")
        assert len(log.read_text().splitlines()) >= 3 * EPOCHS
    finally:
        desk.stop()
    [run] = runs.glob("ft-*")
    whole = lorita.train(
        model=base, data=str(data), output_dir=str(tmp_path / "whole"), dtype="float32",
        num_train_epochs=EPOCHS, per_device_train_batch_size=4, eval_fraction=0, **QUICK,
    )  # fmt: skip
    name = "adapter_model.safetensors"
    assert (run / name).read_bytes() == (whole.path / name).read_bytes()


def test_one_server_for_a_folder(desk: Desk, base: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="--no-jobs"):
        open_desk(tmp_path, base)


def new_job(desk: Desk) -> Job:
    file = desk.files.write(chats(), "chats.jsonl", TRAINING_FILE)
    return desk.create(request(file.id))


def test_a_process_that_never_gets_on_fails_the_job(desk: Desk) -> None:
    job = new_job(desk)
    supervisor = desk._supervisor
    supervisor._validate(job)
    assert desk.database.move(job.id, [QUEUED], RUNNING)
    for _ in range(MOST_CRASHES):
        supervisor._conclude(desk.job(job.id), None, " (signal 9)")
        assert desk.job(job.id).status == RUNNING
    supervisor._conclude(desk.job(job.id), None, " (signal 9)")
    failed = desk.job(job.id)
    assert failed.status == FAILED
    assert failed.error is not None
    assert "signal 9" in failed.error.message


@pytest.mark.parametrize(
    ("kind", "code", "param"),
    [
        ("DataError", "invalid_training_file", "training_file"),
        ("ModelError", "training_failed", None),
        ("bug", "server_error", None),
    ],
)
def test_why_a_run_failed(desk: Desk, kind: str, code: str, param: str | None) -> None:
    job = new_job(desk)
    message = f"{desk.files.path(job.request.training_file)}, row 3: no"
    ended = {"status": "failed", "kind": kind, "message": message}
    desk._supervisor._conclude(job, ended, "")
    failed = desk.job(job.id)
    assert failed.error is not None
    assert (failed.error.code, failed.error.param) == (code, param)
    assert (f"{job.request.training_file}, row 3: no" == failed.error.message) == (kind != "bug")


@pytest.mark.parametrize("status", [PAUSED, CANCELLED])
def test_what_was_stopped_stays_stopped(desk: Desk, status: str) -> None:
    job = new_job(desk)
    desk._supervisor._validate(job)
    desk.database.move(job.id, [QUEUED], status)
    desk._supervisor._conclude(desk.job(job.id), None, " (signal 15)")
    desk._supervisor._turn()
    assert desk.job(job.id).status == status
    assert desk._supervisor._process is None


def test_a_job_keeps_the_base_that_it_was_created_for(base: str, tmp_path: Path) -> None:
    desk = open_desk(tmp_path, base)
    job = new_job(desk)
    desk.stop()
    other = Desk(tmp_path, {"model": "another", "r": 3}, ["base"])
    other._supervisor._validate(other.job(job.id))
    settings = tmp_path / DATA_FOLDER / "work" / job.id / SETTINGS
    assert json.loads(settings.read_text())["model"] == base
    other.stop()


def test_events_are_told_once(desk: Desk) -> None:
    job = new_job(desk)
    for _ in range(3):
        desk.database.add_event(job.id, JobEvent("Step 1", mark="step 1"))
        desk.database.add_event(job.id, JobEvent("again"))
    messages = [event.message for event in desk.events(job.id, None, 100)[0]]
    assert messages.count("Step 1") == 1
    assert messages.count("again") == 3


def test_a_damaged_database_is_said(base: str, tmp_path: Path) -> None:
    (tmp_path / DATA_FOLDER).mkdir()
    write(tmp_path / DATA_FOLDER / "jobs.sqlite3", b"no database" * 1000)
    with pytest.raises(OutputError, match="cannot be read"):
        open_desk(tmp_path, base)
    open_desk_elsewhere = tmp_path / "other"
    open_desk_elsewhere.mkdir()
    (open_desk_elsewhere / DATA_FOLDER).symlink_to(tmp_path)
    with pytest.raises(OutputError, match="symbolic link"):
        open_desk(open_desk_elsewhere, base)


def test_leftovers_are_removed_and_nothing_else(base: str, tmp_path: Path) -> None:
    desk = open_desk(tmp_path, base)
    kept = desk.files.write(b"x", "x", TRAINING_FILE)
    lost = desk.files.write(b"y", "y", TRAINING_FILE)
    desk.files.path(lost.id).unlink()
    folder = desk.files.folder
    desk.stop()
    write(folder / f"file-{'a' * 24}", b"renamed, but not noted")
    write(folder / f"file-{'b' * 24}.part", b"half")
    write(folder / "mine.txt", b"somebody else's")
    desk = open_desk(tmp_path, base)
    assert {path.name for path in folder.iterdir()} == {kept.id, "mine.txt"}
    assert [file.id for file in desk.database.files()] == [kept.id]
    desk.stop()
