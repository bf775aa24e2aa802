"""Who reaches the page, what it may load, and what it never sends."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from lorita.cli.studio import page_tools
from lorita.errors import DataError, SettingsError
from lorita.studio import app, guard
from lorita.studio.explained import explained
from lorita.studio.pages_sent import cleaned
from lorita.studio.words import ENGLISH, SPANISH, Told
from tests.command import refused

LOCAL = {"host": "127.0.0.1:7860"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studio") / "runs"


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Any]:
    with TestClient(app.prepared(folder, page_tools(), host="127.0.0.1", password=None)) as found:
        yield found


def test_pages_refer_to_nobody_else(client: Any) -> None:
    for language in ("en", "es"):
        page = client.get(f"/{language}/", headers=LOCAL)
        assert page.status_code == 200 and f'lang="{language}"' in page.text
        heads = page.text.partition("<body")[0]
        for foreign in ("googleapis", "gstatic", "cdnjs", "raw.githubusercontent", "gradio.app"):
            assert foreign not in heads
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert 'analytics_enabled":false' in page.text
    assert client.get("/", headers={**LOCAL, "accept-language": "es"}).url.path == "/es/"


def test_other_names_and_other_pages_are_refused(client: Any) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example:7860", ""):
        assert client.get("/en/", headers={"host": host}).status_code == 403
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9999"):
        answer = client.post("/en/gradio_api/queue/join", headers={**LOCAL, "origin": origin})
        assert answer.status_code == 403
    long = {**LOCAL, "content-length": str(guard.MOST_BODY + 1)}
    assert client.post("/en/gradio_api/upload", headers=long).status_code == 413


def test_no_file_of_this_machine_is_sent(client: Any, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "secret.txt").write_text("do not tell")
    for path in (
        "/etc/passwd", str(folder / "secret.txt"), "../../../../etc/passwd", "runs/secret.txt",
    ):  # fmt: skip
        for route in (f"/en/gradio_api/file={path}", f"/en/file={path}", f"/files/{path}/adapter"):
            answer = client.get(route, headers=LOCAL)
            assert answer.status_code in (403, 404) and "do not tell" not in answer.text
    for route in ("/files/..%2f/adapter", "/files/secret.txt/log", "/files/a/b/c", "/docs"):
        assert client.get(route, headers=LOCAL).status_code == 404
    schema = client.get("/en/gradio_api/info", headers=LOCAL)
    assert schema.status_code == 404 or schema.json()["named_endpoints"] == {}


def test_a_password(folder: Path) -> None:
    with TestClient(
        app.prepared(folder, page_tools(), host="0.0.0.0", password="correct horse")
    ) as client:
        assert client.get("/en/").status_code == 401
        assert "Basic" in client.get("/en/").headers["www-authenticate"]
        for given in ("wrong", "", "correct horsé"):
            code = base64.b64encode(f"x:{given}".encode()).decode()
            assert client.get("/en/", headers={"authorization": f"Basic {code}"}).status_code == 401
        assert client.get("/en/", headers={"authorization": "Basic ***"}).status_code == 401
        code = base64.b64encode(b"anybody:correct horse").decode()
        assert client.get("/en/", headers={"authorization": f"Basic {code}"}).status_code == 200


def test_the_command_refuses(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(guard.VARIABLE, raising=False)
    assert "a password is needed" in refused(capsys, "studio", tmp_path, "--host", "0.0.0.0")
    monkeypatch.setenv(guard.VARIABLE, "short")
    assert "8 or more" in refused(capsys, "studio", tmp_path)
    monkeypatch.delenv(guard.VARIABLE)
    (tmp_path / "file").write_text("")
    assert "this is a file" in refused(capsys, "studio", tmp_path / "file")
    (tmp_path / "run.yaml").write_text("")
    assert "this is a run" in refused(capsys, "studio", tmp_path)
    monkeypatch.setattr(app, "find_spec", lambda name: None)
    assert "lorita[studio]" in refused(capsys, "studio", tmp_path / "x")


def test_errors_are_told_in_the_language_and_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    bad = "<script>alert(1)</script>\u202e"
    for words in (ENGLISH, SPANISH):
        for error in (
            Told("bad_name", name=bad), DataError(bad), SettingsError([bad, bad], hint=bad),
            KeyError(bad), MemoryError(), RuntimeError(bad),
        ):  # fmt: skip
            shown = explained(words, error)
            assert "<script>" not in shown and "\u202e" not in shown and "Traceback" not in shown
    assert "inesperado" in explained(SPANISH, ValueError("secret"))
    assert "secret" not in explained(SPANISH, ValueError("secret"))
    assert "secret" in capsys.readouterr().err  # for whoever runs the studio


def test_what_is_taken_out_of_a_page() -> None:
    page = (
        '<html lang="en"><head><meta property="og:image" content="https://a.b/c.png" />'
        '<link rel="preconnect" href="https://fonts.gstatic.com"><link rel="manifest" href="/m">'
        '<script src="https://cdn.x/y.js" async></script><link rel="stylesheet" href="./a.css">'
        '<script src="./own.js"></script></head></html>'
    )
    found = cleaned(page, "es")
    assert "https:" not in found and "manifest" not in found and 'lang="es"' in found
    assert "./a.css" in found and "./own.js" in found
