"""Files: what is uploaded comes back, lies under a name of the server's own, and nowhere else."""

from __future__ import annotations

import http.client
import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi import FastAPI

from lorita.jobs.work_folder import DATA_FOLDER
from lorita.serving.app import make_routes
from lorita.serving.metrics import Metrics
from tests.serving.jobs import QUICK, chats
from tests.serving.server import Running, running

KEY = "a-key-for-tests"
MULTIPART = "multipart/form-data; boundary=B"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("watched-files")


@pytest.fixture(scope="module")
def serving(chat_base: Path, watched: Path) -> Iterator[Running]:
    with running(chat_base, watch=watched, jobs=QUICK, key=KEY) as it:
        yield it


@pytest.fixture(scope="module")
def client(serving: Running) -> openai.OpenAI:
    return serving.client()


def stored(watched: Path) -> list[str]:
    return sorted(path.name for path in (watched / DATA_FOLDER / "files").iterdir())


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    extra = "" if filename is None else f'; filename="{filename}"'
    head = f'--B\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def post(
    serving: Running, body: Any, kind: str = MULTIPART, path: str = "/v1/files", **headers: str
) -> tuple[int, dict[str, Any]]:
    host = serving.url.removeprefix("http://").removesuffix("/v1")
    connection = http.client.HTTPConnection(host, timeout=30)
    sent = {"Content-Type": kind, "Authorization": f"Bearer {KEY}", **headers}
    connection.request("POST", path, body, sent, encode_chunked=not isinstance(body, bytes))
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text)


def test_uploaded_listed_read_and_deleted(client: openai.OpenAI, watched: Path) -> None:
    contents = {f"{n}.jsonl": bytes([n, 13, 10, 45, 45, 66]) * 70_000 for n in range(3)}
    files = [
        client.files.create(file=(name, content), purpose="fine-tune")
        for name, content in contents.items()
    ]
    for file, (name, content) in zip(files, contents.items(), strict=True):
        assert (file.filename, file.bytes, file.purpose) == (name, len(content), "fine-tune")
        assert client.files.retrieve(file.id) == file
        assert client.files.content(file.id).read() == content
    ids = [file.id for file in files]
    assert [f.id for f in client.files.list(order="asc")] == ids
    assert [f.id for f in client.files.list()] == ids[::-1]
    assert [f.id for f in client.files.list(limit=1)] == ids[::-1]  # page after page
    assert [f.id for f in client.files.list(order="asc", after=ids[0]).data] == ids[1:]
    assert not list(client.files.list(purpose="fine-tune-results"))
    assert stored(watched) == sorted(ids)
    for file in files:
        assert client.files.delete(file.id).deleted
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(file.id)
        with pytest.raises(openai.NotFoundError):
            client.files.content(file.id)
    assert stored(watched) == []


@pytest.mark.parametrize(
    "name",
    ["../../evil", "/etc/passwd", "C:\\a\\evil.txt", "..", "a\0b", "x" * 5000, "naïve ☂.jsonl", ""],
)
def test_a_clients_name_is_never_a_path(client: openai.OpenAI, watched: Path, name: str) -> None:
    before = {path for path in watched.rglob("*") if DATA_FOLDER not in str(path)}
    try:
        file = client.files.create(file=(name, b"x"), purpose="fine-tune")
    except openai.BadRequestError:
        assert stored(watched) == []
    else:
        assert re.fullmatch(r"file-[A-Za-z0-9]{24}", file.id)
        assert "/" not in file.filename
        assert len(file.filename) <= 255
        assert stored(watched) == [file.id]
        client.files.delete(file.id)
    assert {path for path in watched.rglob("*") if DATA_FOLDER not in str(path)} == before


@pytest.mark.parametrize("purpose", ["assistants", "batch", "vision", "user_data", "evals"])
def test_purposes_without_a_use_are_refused(client: openai.OpenAI, purpose: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="nothing here uses") as refused:
        client.files.create(file=("x", b"x"), purpose=purpose)
    assert refused.value.param == "purpose"


FILE, PURPOSE, END = part("file", b"x", "x"), part("purpose", b"fine-tune"), b"--B--\r\n"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not complete"),
        (b"hello", "not multipart"),
        (FILE, "not complete"),
        (FILE + PURPOSE, "not complete"),
        (FILE + END, "purpose: '' is not one of"),
        (PURPOSE + END, "file: is missing"),
        (part("file", b"", "x") + PURPOSE + END, "File is empty"),
        (part("file", b"x") + PURPOSE + END, "should be a file"),
        (FILE + part("purpose", b"fun") + END, "'fun' is not one of"),
        (FILE + FILE + PURPOSE + END, "file was given twice"),
        (FILE + PURPOSE + PURPOSE + END, "purpose was given twice"),
        (FILE + PURPOSE + part("expires_after[anchor]", b"x") + END, "Unrecognized"),
        (FILE + part("purpose", b"x" * 5000) + END, "too long"),
        (b"--B\r\nX: y\r\n\r\nz\r\n" + END, "Unrecognized"),
    ],
)  # fmt: skip
def test_forms_that_are_refused(serving: Running, watched: Path, body: bytes, said: str) -> None:
    status, answer = post(serving, body)
    assert status == 400, answer
    assert said in answer["error"]["message"]
    assert stored(watched) == []


def test_bodies_of_the_wrong_kind_are_refused(serving: Running) -> None:
    assert post(serving, b"{}", "application/json")[0] == 415
    assert post(serving, FILE, "multipart/form-data")[0] == 400
    assert post(serving, FILE, path="/v1/fine_tuning/jobs")[0] == 415


def test_large_files_are_refused_and_leave_nothing(
    serving: Running, client: openai.OpenAI, watched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorita.serving.upload.MOST_BYTES", 2**20)
    with pytest.raises(openai.APIStatusError) as refused:
        client.files.create(file=("x", b"x" * 2**21), purpose="fine-tune")
    assert refused.value.status_code == 413
    assert refused.value.param == "file"
    endless = iter([PURPOSE, part("file", b"x" * 1000, "x")[:-2], *[b"y" * 2**16] * 40])
    assert post(serving, endless)[0] == 413
    host = {"Content-Length": str(2**40)}
    assert post(serving, b"x", **host)[0] == 413
    assert stored(watched) == []


def test_a_full_disk_is_said_and_leaves_nothing(
    client: openai.OpenAI, watched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lorita.jobs.files.Upload.write", full)
    with pytest.raises(openai.InternalServerError, match="disk is full"):
        client.files.create(file=("x", b"x"), purpose="fine-tune")
    assert stored(watched) == []


def test_a_client_that_goes_away_leaves_nothing(serving: Running, watched: Path) -> None:
    port = int(serving.url.rsplit(":", 1)[1].removesuffix("/v1"))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
            + f"Content-Type: {MULTIPART}\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()
            + PURPOSE + part("file", b"half", "x")
        )  # fmt: skip
        serving.until(lambda: stored(watched) != [])
        assert stored(watched)[0].endswith(".part")
    serving.until(lambda: stored(watched) == [])


def test_several_at_once(client: openai.OpenAI, watched: Path) -> None:
    made: list[Any] = []

    def send(number: int) -> None:
        content = bytes([number]) * 300_000
        file = client.files.create(file=(f"{number}", content), purpose="fine-tune")
        made.append((file.id, content))

    threads = [threading.Thread(target=send, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 6
    for file, content in made:
        assert client.files.content(file).read() == content
        client.files.delete(file)


def test_pages_of_other_sites_cannot_upload(chat_base: Path, tmp_path: Path) -> None:
    """A browser lets any page send a form to this machine; without a key, too."""
    with running(chat_base, watch=tmp_path, jobs=QUICK) as server:
        form = FILE + PURPOSE + END
        for origin in ("http://evil.example", "null", "https://127.0.0.1.evil.example"):
            assert post(server, form, Origin=origin)[0] == 403
        assert stored(tmp_path) == []
        assert post(server, form, Origin="http://127.0.0.1:3000")[0] == 200
        assert post(server, form)[0] == 200


def routes(serving: Running) -> Iterator[tuple[str, str]]:
    """Every method and path that the server answers."""
    app: FastAPI = make_routes(serving.service, Metrics(serving.service.scheduler), serving.desk)
    for route in app.routes:
        for method in getattr(route, "methods", None) or ():
            yield method, re.sub(r"\{[^}]*\}", "x", getattr(route, "path", ""))


def test_every_path_needs_the_key(serving: Running) -> None:
    host = serving.url.removeprefix("http://").removesuffix("/v1")
    connection = http.client.HTTPConnection(host, timeout=30)
    found = list(routes(serving))
    assert len(found) >= 20
    for method, path in found:
        if path == "/health":
            continue
        for given in ({}, {"Authorization": "Bearer wrong-key"}, {"Authorization": KEY}):
            connection.request(method, path, b"{}" if method == "POST" else None, given)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 401, (method, path)
            if method != "HEAD":
                assert json.loads(text)["error"]["code"] == "invalid_api_key"


def test_the_log_holds_no_names_no_data_and_no_keys(
    client: openai.OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "a-very-secret-name.jsonl"
    file = client.files.create(file=(secret, chats()), purpose="fine-tune")
    client.files.content(file.id)
    client.files.delete(file.id)
    with pytest.raises(openai.NotFoundError):
        client.fine_tuning.jobs.retrieve(secret)
    logged = "\n".join(record.getMessage() for record in caplog.records if "lorita" in record.name)
    assert "POST /v1/files 200" in logged
    assert "DELETE /v1/files/{file} 200" in logged
    for hidden in (secret, file.id, KEY, "yes"):
        assert hidden not in logged
