"""What is counted and deleted in the caches, and what is left alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from lorita.cli import run as lorita
from lorita.storage import cache, cache_size
from lorita.storage.cache_size import entries_in, keep_below, prune
from lorita.storage.parts import Part
from tests.command import write

KEY = "ab" * 20


def fill(folder: Path) -> Path:
    """A table with its notes, a converted model, a kernel; with how long they were not used."""
    (folder / "model-0123456789abcdef").mkdir(parents=True)
    made = {
        f"{KEY}.arrow": 4,
        f"{KEY}.json": 4,
        "model-0123456789abcdef/config.json": 2,
        "native-0123456789abcdef.so": 3,
    }
    for name, days in made.items():
        path = write(folder / name, b"x" * 100)
        then = time.time() - days * 86400
        os.utime(path, (then, then))
        if path.parent != folder:
            os.utime(path.parent, (then, then))
    return folder


def test_entries(tmp_path: Path) -> None:
    entries = entries_in(fill(tmp_path / "lorita"))
    assert [entry.size for entry in entries] == [200, 100, 100]
    assert [len(entry.paths) for entry in entries] == [2, 1, 1]
    assert entries_in(tmp_path / "none") == []


@pytest.mark.parametrize(("limit", "left"), [(400, 4), (399, 2), (201, 2), (199, 1), (0, 0)])
def test_the_longest_unused_go_first(limit: int, left: int, tmp_path: Path) -> None:
    folder = fill(tmp_path / "lorita")
    keep_below(folder, limit)
    assert len(list(folder.iterdir())) == left


def test_what_has_just_been_used_stays(tmp_path: Path) -> None:
    folder = fill(tmp_path / "lorita")
    for entry in entries_in(folder):
        for path in entry.paths:
            cache.mark_used(path)
    assert keep_below(folder, 0) == 0


def test_only_loritas_own_is_deleted(tmp_path: Path) -> None:
    """Links are not followed, other files stay, and so does what is being written."""
    folder, elsewhere = fill(tmp_path / "lorita"), tmp_path / "precious"
    elsewhere.mkdir()
    write(elsewhere / "a.txt", "precious")
    (folder / "model-fedcba9876543210").symlink_to(elsewhere)
    (folder / "model-0123456789abcdef" / "inside").symlink_to(elsewhere)
    write(folder / "notes.txt", "somebody's")
    (folder / "mine").mkdir()
    dead = folder / ".table-dead.part"
    dead.mkdir()
    with Part(folder, "model") as part:
        assert prune(folder) == 400
        left = {"notes.txt", "mine", "model-fedcba9876543210", part.path.name}
        assert {path.name for path in folder.iterdir()} == left
    assert (elsewhere / "a.txt").read_text() == "precious"


def test_a_link_in_place_of_the_folder(tmp_path: Path) -> None:
    fill(tmp_path / "theirs")
    (tmp_path / "lorita").symlink_to(tmp_path / "theirs")
    assert prune(tmp_path / "lorita") == 0
    assert len(list((tmp_path / "theirs").iterdir())) == 4


def test_a_command_keeps_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_size, "LIMIT", 250)
    folder = fill(tmp_path / "lorita")
    folder.chmod(0o700)
    assert cache._clean(folder) == folder
    assert sum(entry.size for entry in entries_in(folder)) == 200


def test_doctor_prunes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import datasets

    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "tables"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for place in ("hub", "tables", "cache"):
        fill(tmp_path / place / "lorita")
    assert lorita(["doctor", "--prune"]) == 0
    said = capsys.readouterr().out
    assert said.count("deleted from") == 3 and str(tmp_path / "hub" / "lorita") in said
    assert not any(list((tmp_path / p / "lorita").iterdir()) for p in ("hub", "tables", "cache"))
