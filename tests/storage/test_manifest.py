"""Only what lorita listed is removed, whatever else is there and whatever the list says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorita.errors import LoritaWarning, OutputError
from lorita.storage.manifest import (
    MANIFEST,
    Manifest,
    claim,
    read_manifest,
    remove_folder,
    remove_listed,
    strangers,
)
from tests.command import write


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_what_is_not_listed_is_a_stranger(tmp_path: Path) -> None:
    claim(tmp_path, ["run.yaml", "checkpoint-1/state.json"])
    put(tmp_path, "run.yaml", "checkpoint-1/state.json", "checkpoint-1/mine", "checkpoint-10/x")
    put(tmp_path, ".DS_Store", "a/b", ".x.abcdefgh.lorita.part", ".lorita-lock", ".y.part")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("run.yaml")
    assert strangers(tmp_path, read_manifest(tmp_path)) == [
        ".DS_Store", ".y.part", "a/", "checkpoint-1/mine", "checkpoint-10/", "empty/", "link",
    ]  # fmt: skip


def test_a_link_in_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "run"
    put(elsewhere, "state.json")
    folder.mkdir()
    claim(folder, ["checkpoint-1/state.json"])
    (folder / "checkpoint-1").symlink_to(elsewhere)
    assert strangers(folder, read_manifest(folder)) == ["checkpoint-1"]
    remove_listed(folder, ["checkpoint-1/state.json"])
    assert not remove_folder(folder, "checkpoint-1")
    assert (elsewhere / "state.json").exists()


def test_a_folder_with_something_of_the_users_is_kept_whole(tmp_path: Path) -> None:
    claim(tmp_path, ["checkpoint-1/state.json"])
    put(tmp_path, "checkpoint-1/state.json", "checkpoint-1/notes.txt")
    assert not remove_folder(tmp_path, "checkpoint-1")
    assert (tmp_path / "checkpoint-1/state.json").exists()
    (tmp_path / "checkpoint-1/notes.txt").unlink()
    assert remove_folder(tmp_path, "checkpoint-1")
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        '{"format": 2, "kind": "run", "files": []}',
        '{"format": 1, "kind": 3, "files": []}',
        '{"format": 1, "kind": "run", "files": "run.yaml"}',
        *(
            json.dumps({"format": 1, "kind": "run", "files": [name]})
            for name in (
                "../precious",
                "/etc/passwd",
                "a/../../precious",
                "",
                ".",
                "a//b",
                "..",
                3,
                None,
                "a\0b",
                "..\\x",
            )
        ),
    ],
    ids=range(18),
)
def test_a_list_that_is_not_believed(tmp_path: Path, content: str) -> None:
    write(tmp_path / MANIFEST, content)
    with pytest.raises(OutputError, match=r"\.lorita-files: damaged"):
        read_manifest(tmp_path)


def test_what_is_in_the_way_of_a_file_is_kept(tmp_path: Path) -> None:
    claim(tmp_path, ["run.yaml"])
    put(tmp_path, "README.md")
    with pytest.warns(LoritaWarning, match=r"README.md.not-lorita-1"):
        claim(tmp_path, ["README.md"])
    assert (tmp_path / "README.md.not-lorita-1").read_text() == "README.md"
    known = read_manifest(tmp_path)
    assert known == Manifest("run", frozenset({"run.yaml", "README.md"}))
    assert strangers(tmp_path, known) == ["README.md.not-lorita-1"]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    claim(tmp_path, ["caf\udce9.json"])
    known = read_manifest(tmp_path)
    assert known is not None and known.files == {"caf\udce9.json"}
