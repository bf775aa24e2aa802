"""Without a network: one line, at once, and what was downloaded before is used."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import datasets
import pytest
from huggingface_hub import constants

from lorita.cli import run as command
from lorita.storage import connection
from lorita.storage.connection import find_hub, is_lost, quiet_client
from tests.command import refused


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user has it: nothing is set, and nothing was tried yet."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(connection._State, "lost", False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def silent() -> Iterator[str]:
    """An address where nobody ever answers: its queue is full."""
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        yield f"http://127.0.0.1:{port}"
        for one in waiting:
            one.close()


@pytest.fixture(params=["refused", "no such name", "silent", "slow lookup", "proxy"])
def nowhere(request: pytest.FixtureRequest, silent: str, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "slow lookup":

        def slow(*args: object, **options: object) -> list[object]:
            time.sleep(5)
            return []

        monkeypatch.setattr(connection.socket, "getaddrinfo", slow)
    if request.param == "proxy":
        monkeypatch.setenv("http_proxy", "127.0.0.1:9")
        monkeypatch.setenv("no_proxy", "")
    place = {"silent": silent, "no such name": "https://nowhere.invalid"}
    endpoint = place.get(request.param, "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    return endpoint


def test_found_out_in_less_than_two_seconds(nowhere: str) -> None:
    began = time.perf_counter()
    assert not find_hub()
    assert time.perf_counter() - began < connection.LIMIT + 0.5 <= 2
    assert is_lost() and constants.HF_HUB_OFFLINE and datasets.config.HF_HUB_OFFLINE


@pytest.mark.parametrize(
    "asked",
    [
        ("generate", "some/thing", "hi"),
        ("plan", "some/thing"),
        ("compare", "some/thing", "--prompt", "hi"),
        ("preview", "some/data", "--model", "LLAMA"),
    ],
    ids=lambda asked: str(asked[0]),
)
def test_one_line_for_a_name_that_cannot_be_asked_for(
    asked: tuple[str, ...],
    llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    code = command([str(llama) if word == "LLAMA" else word for word in asked])
    said = capsys.readouterr().err
    assert code == 2
    first, *more = said.splitlines()
    assert first.startswith(f"Error: {asked[1]}: no such ")
    if asked[0] != "compare":
        assert "the hub (http://127.0.0.1:9) cannot be reached" in first
        assert "HF_HUB_OFFLINE" not in said
    assert len(more) <= 1, said
    assert not caplog.records


def test_it_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert not find_hub()
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        assert find_hub() and not is_lost()
        assert not constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(connection, "_connects", lambda endpoint: pytest.fail("asked"))
    assert not find_hub() and not is_lost() and constants.HF_HUB_OFFLINE


def test_advice_is_not_what_was_done_already(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    said = refused(capsys, "plan", "some/thing")
    assert "HF_HUB_OFFLINE is set" in said and "Unset HF_HUB_OFFLINE" in said
    assert "HF_HUB_OFFLINE=1" not in said


def test_the_client_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("huggingface_hub.utils._http")
    with quiet_client():
        logger.warning("Retrying in 1s [Retry 1/5].")
    assert not caplog.records
