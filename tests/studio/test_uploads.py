"""Uploads become files with names of lorita's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorita.studio import uploads
from lorita.studio.uploads import keep_file, keep_text, run_name
from lorita.studio.words import Told
from lorita.studio.workspace import Workspace


@pytest.mark.parametrize(("name", "kept"), [
    ("rows.csv", "rows-"), ("mis filas.JSONL", "mis-filas-"), ("a'$(x)`.txt", "a-x-"),
    ("¿?.csv", "data-"), ("x.csv.gz", "x-"), ("-rf.txt", "rf-"), ("<b>.md", "b-"),
])  # fmt: skip
def test_names(name: str, kept: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text("a\nb\n")
    workspace = Workspace(tmp_path / "runs")
    path = Path(keep_file(workspace, file))
    assert path.parent == workspace.uploads and path.name.startswith(kept)
    assert path.read_text() == "a\nb\n" and keep_file(workspace, file) == str(path)
    assert [p.name for p in workspace.uploads.iterdir()] == [path.name]


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path / "runs")
    monkeypatch.setattr(uploads, "MOST_BYTES", 20)
    for name, content, key in (
        ("x.exe", "MZ", "unknown_kind"), ("x", "a", "unknown_kind"), ("x.csv", "", "empty_file"),
        ("x.gz", "a", "unknown_kind"), ("x.txt", "a" * 21, "too_large"),
    ):  # fmt: skip
        (tmp_path / name).write_text(content)
        with pytest.raises(Told) as told:
            keep_file(workspace, tmp_path / name)
        assert told.value.key == key
    for text, key in (("", "empty_text"), (" \n\t\n", "empty_text"), ("one", "few_texts"),
                      ("abcde\nabcdefghijklmnop", "too_large")):  # fmt: skip
        with pytest.raises(Told) as told:
            keep_text(workspace, text)
        assert told.value.key == key
    assert not workspace.uploads.exists() or not list(workspace.uploads.iterdir())


def test_pasted_text(tmp_path: Path) -> None:
    path = keep_text(Workspace(tmp_path), "one\r\n\r\n two \rthree\ud800")
    assert Path(path).read_bytes() == b"one\n two \nthree?\n"


def test_the_name_of_a_run(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert run_name("runs/studio/data/rows-0123abcd.csv.gz") == "rows"
    assert run_name("owner/data") == "data" and run_name("/") == "run"
    (tmp_path / "rows").mkdir()
    (tmp_path / "Rows-2").mkdir()
    assert workspace.free_name("rows") == "rows-3"
    assert workspace.free_name("¿?") == "run" and workspace.free_name("studio") == "studio-1"
