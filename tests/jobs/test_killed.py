"""A killed server: the next one goes on with its job, and cleans up what was half written."""

from __future__ import annotations

import json
import random
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
    TRAINING_FILE,
    Job,
    JobEvent,
)
from lorita.jobs.supervisor import MOST_CRASHES
from lorita.jobs.work_folder import DATA_FOLDER, SETTINGS
from tests.command import write
from tests.jobs.server import Killable, kill, open_desk, request, trainer
from tests.serving import jobs
from tests.serving.conftest import save_chat_model
from tests.serving.jobs import (
    EPOCHS,
    QUICK,
    adapter,
    chats,
    create,
    events,
    until_step,
    upload,
)
from tests.serving.server import running


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
    """``kill -9`` of ``lorita serve``, and then of the training process that outlives it."""
    runs = tmp_path / "runs"
    runs.mkdir()
    server = Killable.start(base, runs)
    file = upload(server.client())
    job = create(server.client(), file).id
    with server.half_an_upload():
        until(lambda: len(list(server.files.iterdir())) == 2)
        until(lambda: held(runs / DATA_FOLDER / "work" / job))
        assert [one.id for one in server.client().files.list()] == [file]
        server.kill()
    assert len(list(server.files.iterdir())) == 2  # one of them half written
    process = trainer(runs, job)

    with running(base, watch=runs, jobs=QUICK) as again:  # the training process is still at work
        client = again.client()
        assert [one.id for one in client.files.list()] == [file]
        assert [path.name for path in server.files.iterdir()] == [file]
        until_step(client, job, "Checkpoint created at step 12")
        assert trainer(runs, job) == process  # not run twice
        kill(process)
        done = jobs.until(client, job, "succeeded")
        assert any("ended from outside" in event.message for event in events(client, job))
    assert adapter(runs, done) == uninterrupted(base, tmp_path)


def uninterrupted(base: str, tmp_path: Path) -> bytes:
    """The adapter of the same training that nobody has killed."""
    whole = lorita.train(
        model=base, data=str(write(tmp_path / "chats.jsonl", chats())),
        output_dir=str(tmp_path / "whole"), dtype="float32", num_train_epochs=EPOCHS,
        per_device_train_batch_size=4, eval_fraction=0, **QUICK,
    )  # fmt: skip
    return (whole.path / "adapter_model.safetensors").read_bytes()


@pytest.mark.slow
def test_killed_again_and_again(base: str, tmp_path: Path) -> None:
    """At random instants, with half an upload each time; the bytes are the same in the end."""
    runs, dice = tmp_path / "runs", random.Random(0)
    runs.mkdir()
    job, file = "", ""
    for number in range(6):
        server = Killable.start(base, runs)
        client = server.client()
        if not job:
            file = upload(client)
            job = create(client, file).id
        # A quick machine ends the job before the last kill: then its results are there, too.
        known = list(client.files.list())
        assert [one.id for one in known if one.purpose == "fine-tune"] == [file]
        assert {path.name for path in server.files.iterdir()} == {one.id for one in known}
        with server.half_an_upload():
            until(lambda: len(list(server.files.iterdir())) > len(known))  # noqa: B023
            time.sleep(dice.uniform(0, 6))
            server.kill(job if number % 2 else None)
    server = Killable.start(base, runs)
    done = jobs.until(server.client(), job, "succeeded", seconds=300)
    [result] = done.result_files
    assert {path.name for path in server.files.iterdir()} == {file, result}
    server.kill()
    assert adapter(runs, done) == uninterrupted(base, tmp_path)


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
    with pytest.raises(OutputError, match="not made here"):
        open_desk(tmp_path, base)
    with pytest.raises(OutputError, match="cannot be read"):
        open_desk(tmp_path, base, allowed=True)
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
