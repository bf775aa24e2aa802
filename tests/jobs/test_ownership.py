"""A folder of runs from elsewhere brings no jobs along, and a damaged database is one message."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorita.errors import OutputError
from lorita.jobs.desk import Desk
from lorita.jobs.records import TRAINING_FILE, Request
from lorita.jobs.work_folder import DATA_FOLDER
from tests.serving.jobs import chats


def desk_of(runs: Path, **more: Any) -> Desk:
    return Desk(runs, {"model": "nowhere"}, ["base"], **more)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a job that waits."""
    folder = tmp_path / "runs"
    folder.mkdir()
    desk = desk_of(folder)
    file = desk.files.write(chats(), "chats.jsonl", TRAINING_FILE)
    desk.create(Request("base", file.id))
    desk.stop()
    return folder


def test_own_jobs_go_on(runs: Path) -> None:
    desk = desk_of(runs)
    assert len(desk.list_jobs(None, 10, lambda job: True)[0]) == 1
    desk.stop()
    moved = runs.rename(runs.with_name("moved"))
    desk_of(moved).stop()


def copied(runs: Path, tmp_path: Path) -> Path:
    shutil.copytree(runs, tmp_path / "copy")
    return tmp_path / "copy"


def without_name(runs: Path, tmp_path: Path) -> Path:
    (runs / DATA_FOLDER / "owner").unlink()
    return runs


def another_name(runs: Path, tmp_path: Path) -> Path:
    (runs / DATA_FOLDER / "owner").write_text("0" * 32)
    return runs


def another_users_memory(runs: Path, tmp_path: Path) -> Path:
    os.environ["XDG_STATE_HOME"] = str(tmp_path / "state")
    return runs


def only_work(runs: Path, tmp_path: Path) -> Path:
    """A folder of settings that waits for its database."""
    for path in (runs / DATA_FOLDER).iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (runs / DATA_FOLDER / "work").mkdir()
    return runs


@pytest.mark.parametrize(
    "made", [copied, without_name, another_name, another_users_memory, only_work]
)
def test_jobs_of_others_are_asked_about(
    made: Callable[[Path, Path], Path], runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", os.environ["XDG_STATE_HOME"])  # put back afterwards
    theirs = made(runs, tmp_path)
    with pytest.raises(OutputError, match="not made here by you") as error:
        desk_of(theirs)
    assert "--jobs" in str(error.value.hint)
    desk_of(theirs, allowed=True).stop()
    desk_of(theirs).stop()  # remembered


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE jobs SET request = 'x'",
        "UPDATE jobs SET request = '{\"no\": 1}'",
        "UPDATE jobs SET request = '[]'",
        "UPDATE jobs SET chosen = x'ff'",
        "UPDATE jobs SET error = '3'",
        "DROP TABLE files",
        "ALTER TABLE jobs DROP COLUMN run",
    ],
)
def test_a_damaged_database_is_one_message(harm: str, runs: Path) -> None:
    database = sqlite3.connect(runs / DATA_FOLDER / "jobs.sqlite3")
    database.execute(harm)
    database.commit()
    database.close()
    with pytest.raises(OutputError, match="cannot be read"):
        desk_of(runs)
