"""A folder of data is what is in it: links out of it are not followed unless they are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from lorita.data.sources.load_source import load_source
from lorita.errors import AdapterError, DataError
from lorita.export.push import _require_inside
from tests.command import write


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return write(tmp_path / "secret.txt", "a secret\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "theirs").mkdir()
    write(tmp_path / "theirs" / "a.txt", "one\ntwo\n")
    return tmp_path / "theirs"


def rows(*names: Path | str) -> list[Any]:
    source = load_source([str(name) for name in names])
    return list(source.cells(range(len(source.rows)))["text"])


@pytest.mark.parametrize("how", ["folder", "pattern", "deep pattern", "relative", "dataset"])
def test_a_link_out_of_the_folder_is_refused(how: str, folder: Path, secret: Path) -> None:
    link = folder / "b.txt"
    if how == "dataset":
        (folder / "train").mkdir()
        link = folder / "train" / "b.txt"
        (folder / "a.txt").rename(folder / "train" / "a.txt")
    link.symlink_to("../secret.txt" if how == "relative" else secret)
    named = {"pattern": folder / "*.txt", "deep pattern": folder / "**" / "*.txt"}.get(how, folder)
    with pytest.raises(DataError, match=r"a link that leads out of .*theirs, to .*secret\.txt"):
        rows(named)


def test_it_is_read_if_it_is_named(folder: Path, secret: Path) -> None:
    (folder / "b.txt").symlink_to(secret)
    assert rows(folder / "b.txt") == ["a secret"]
    assert rows(folder, folder / "b.txt") == ["one", "two", "a secret"]


def test_links_inside_the_folder_are_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "b.txt").symlink_to("a.txt")
    assert rows(folder) == ["one", "two", "one", "two"]
    (tmp_path / "mine").symlink_to(folder)
    assert rows(tmp_path / "mine") == ["one", "two", "one", "two"]


def test_links_that_are_not_read_are_said(folder: Path, tmp_path: Path) -> None:
    (folder / "b.txt").symlink_to(folder / "nothing.txt")
    (folder / "more").symlink_to(tmp_path)
    notes = load_source(str(folder)).notes
    assert any("b.txt: skipped, a link that leads to no file" in note for note in notes)
    assert any("more: skipped, a link that leads to another folder" in note for note in notes)


def test_snapshots_of_the_hub_are_links_to_its_blobs(tmp_path: Path, secret: Path) -> None:
    repository = tmp_path / "datasets--them--data"
    snapshot = repository / "snapshots" / "0123abc"
    for folder in (repository / "blobs", snapshot / "data"):
        folder.mkdir(parents=True)
    write(repository / "blobs" / "f00", "one\n")
    (snapshot / "data" / "a.txt").symlink_to("../../../blobs/f00")
    assert rows(snapshot) == rows(snapshot / "data") == ["one"]
    (snapshot / "data" / "b.txt").symlink_to(secret)
    with pytest.raises(DataError, match="leads out of"):
        rows(snapshot)


@pytest.mark.parametrize("pattern", ["../secret.txt", "/etc/*", "http://127.0.0.1:9/x.txt", "~/x"])
def test_a_card_names_only_files_in_its_folder(pattern: str, folder: Path, secret: Path) -> None:
    card = {"config_name": "default", "data_files": [{"split": "train", "path": pattern}]}
    write(folder / "README.md", f"---\nconfigs:\n- {json.dumps(card)}\n---\n")
    with pytest.raises(DataError, match="lists data outside the folder"):
        rows(folder)


@pytest.mark.parametrize("how", ["link", "name", "split", "split link", "state", "types"])
def test_saved_data_sets_name_only_their_own_files(how: str, tmp_path: Path) -> None:
    for name in ("theirs", "secret"):
        table = Dataset.from_dict({"text": [name]})
        DatasetDict({"train": table}).save_to_disk(str(tmp_path / name))
    folder, secret = tmp_path / "theirs", tmp_path / "secret" / "train"
    state, table_file = folder / "train" / "state.json", "data-00000-of-00001.arrow"
    assert rows(folder) == ["theirs"]
    if how == "link":
        (folder / "train" / table_file).unlink()
        (folder / "train" / table_file).symlink_to(secret / table_file)
    elif how == "name":
        values = json.loads(state.read_text())
        values["_data_files"] = [{"filename": str(secret / table_file)}]
        write(state, json.dumps(values))
    elif how == "split":
        write(folder / "dataset_dict.json", json.dumps({"splits": ["../secret/train"]}))
    elif how == "split link":
        (folder / "train").rename(tmp_path / "before")
        (folder / "train").symlink_to(secret)
    elif how == "state":
        state.unlink()
        state.symlink_to(secret / "state.json")
    else:
        write(state, '{"_data_files": 3}')
    with pytest.raises(DataError, match=r"outside this data set|damaged|should be a valid array"):
        rows(folder)


def test_links_are_not_uploaded(folder: Path, secret: Path) -> None:
    (folder / "chat_template.jinja").symlink_to(secret)
    with pytest.raises(AdapterError, match="is not uploaded"):
        _require_inside(folder / "chat_template.jinja", folder)
    _require_inside(folder / "a.txt", folder)
