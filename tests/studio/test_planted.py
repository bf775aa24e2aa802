"""A folder of runs that somebody else filled: nothing in it is believed, followed or let loose."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from lorita.errors import OutputError
from lorita.studio.app import _add_routes
from lorita.studio.exports import download
from lorita.studio.guard import Guard
from lorita.studio.jobs import launch
from lorita.studio.uploads import keep_file, keep_text
from lorita.studio.words import Told
from lorita.studio.workspace import Workspace
from tests.command import write


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "runs")


def test_an_upload_is_what_was_uploaded(workspace: Workspace, tmp_path: Path) -> None:
    """The place of the content is known beforehand, and something else lies there."""
    file = write(tmp_path / "rows.txt", "a\nb\n")
    digest = hashlib.sha256(b"a\nb\n").hexdigest()
    workspace.uploads.mkdir(parents=True)
    planted = write(workspace.uploads / f"rows-{digest[:8]}.txt", "evil\nevil\n")
    secret = write(tmp_path / "secret.txt", "a\nb\n")
    (workspace.uploads / f"rows-{digest[:16]}.txt").symlink_to(secret)
    kept = Path(keep_file(workspace, file))
    assert kept.read_text() == "a\nb\n" and kept != planted and not kept.is_symlink()
    assert keep_file(workspace, file) == str(kept)
    assert planted.read_text() == "evil\nevil\n"
    text = hashlib.sha256(b"c\nd\n").hexdigest()
    write(workspace.uploads / f"pasted-{text[:8]}.txt", "evil\nevil\n")
    assert Path(keep_text(workspace, "c\nd")).read_text() == "c\nd\n"


@pytest.mark.parametrize("place", ["studio", "studio/data"])
def test_links_in_place_of_folders(place: str, workspace: Workspace, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = workspace.folder / place
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    with pytest.raises(OutputError, match="a symbolic link"):
        keep_text(workspace, "one\ntwo")
    assert not list(elsewhere.iterdir())


def test_output_is_not_written_through_a_link(tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.txt", "mine")
    output = tmp_path / "run.txt"
    output.symlink_to(mine)
    launch(["--version"], output).wait()
    assert mine.read_text() == "mine"
    assert output.read_text().strip() and not output.is_symlink()


@pytest.mark.parametrize("kind", ["report", "log", "gguf"])
def test_links_are_not_sent(kind: str, workspace: Workspace, tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.txt", "do not tell")
    run = workspace.folder / "run"
    run.mkdir(parents=True)
    write(run / "lorita.json", "{}")
    workspace.exports.mkdir(parents=True)
    for link in (run / "report.html", run / "log.jsonl", workspace.exports / "run-adapter.gguf"):
        link.symlink_to(secret)
    with pytest.raises(Told):
        download(workspace, "run", kind)


def test_a_report_of_others_has_no_part_in_the_page(workspace: Workspace) -> None:
    """Its scripts run as if they came from another site, and reach nothing."""
    from fastapi import FastAPI

    run = workspace.folder / "run"
    run.mkdir(parents=True)
    write(run / "lorita.json", "{}")
    write(run / "report.html", "<script>fetch('/en/gradio_api/queue/join')</script>")
    api: Any = FastAPI()
    _add_routes(api, type("Studio", (), {"workspace": workspace}))
    with TestClient(Guard(api, password=None, local=True)) as client:
        answer = client.get("/files/run/report", headers={"host": "127.0.0.1:7860"})
    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200 and "<script>" in answer.text
    assert "sandbox" in policy and "allow-same-origin" not in policy
    assert "default-src 'none'" in policy and "connect-src" not in policy
