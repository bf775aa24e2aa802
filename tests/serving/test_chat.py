"""``lorita chat --url``: the client and the server of lorita talk to each other."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from lorita.cli import run
from lorita.errors import SettingsError
from lorita.inference.options import GenerationOptions
from lorita.inference.remote_conversation import RemoteConversation
from tests.command import refused
from tests.serving.server import Running, running


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def test_answers_are_those_of_chat(
    server: Running, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    root = server.url.removesuffix("/v1")
    for name in ("red", "plain"):
        said = []
        for arguments in ([str(runs / name), "--dtype", "float32"], [name, "--url", root]):
            typed(monkeypatch, "I act as a cook.", "my tea", "/reset", "my tea")
            assert run(["chat", *arguments, "--max-new-tokens", "12"]) == 0
            said.append(capsys.readouterr().out)
        assert said[0] == said[1]
        assert said[0].strip()


def test_the_oldest_turns_are_forgotten(server: Running) -> None:
    talk = RemoteConversation(server.url, "red", None, GenerationOptions(max_new_tokens=8))
    for _ in range(8):
        assert isinstance("".join(talk.say("x" * 80)), str)
    assert 0 < talk.forgotten < 16
    assert len(talk.turns) == 16 - talk.forgotten
    with pytest.raises(SettingsError, match="maximum context length"):
        list(talk.say("x" * 2000))
    talk.reset()
    assert "".join(talk.say("x")) is not None


def test_closing_stops_the_answer(server: Running) -> None:
    talk = RemoteConversation(
        server.url, "base", None, GenerationOptions(max_new_tokens=400, repetition_penalty=1.0)
    )
    pieces = talk.say("x")
    first = next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    server.until(lambda: server.service.scheduler.running == 0)
    assert talk.turns[-1] == {"role": "assistant", "content": first}


def test_refused(
    server: Running, chat_base: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    url = server.url
    assert "It has: base, blue, plain, red" in refused(capsys, "chat", "green", "--url", url)
    for wrong in ("ftp://x", "file:///etc/passwd", "localhost:80", "http://"):
        assert "http://" in refused(capsys, "chat", "--url", wrong)
    assert "Is the server running?" in refused(capsys, "chat", "--url", "http://127.0.0.1:9")
    assert "dtype does nothing" in refused(capsys, "chat", "--url", url, "--dtype", "float32")
    assert "nothing to chat with" in refused(capsys, "chat")
    assert "without --url" in refused(capsys, "chat", chat_base, "--api-key", "x")
    with running(chat_base, key="the-servers-key") as guarded:
        said = refused(capsys, "chat", "base", "--url", guarded.url)
        assert "Incorrect API key" in said
        monkeypatch.setenv("OPENAI_API_KEY", "the-servers-key")
        typed(monkeypatch, "x")
        assert run(["chat", "--url", guarded.url, "--max-new-tokens", "2"]) == 0
