"""``lorita serve`` as it is typed, and as its page in the docs says."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

from lorita.inference.resolve import Resolved
from lorita.models.base import Base
from lorita.serving.registry import _name
from lorita.storage.run_folder import RECORD_FILE
from tests.command import environment, refused
from tests.docs.pages import ROOT, pieces
from tests.forks import start
from tests.serving.server import Running

PAGE = ROOT / "docs" / "serve.md"


@contextmanager
def started(arguments: list[str], cwd: Path, **extra: str) -> Iterator[str]:
    """The command in a process of its own, on a free port; yields its address."""
    process = start(
        ["-m", "lorita", *arguments, "--port", "0"], environment(**extra),
        cwd=cwd, text=True, encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r"http://\S+:(\d+)/v1", said)
        assert found, said + process.communicate(timeout=60)[1]
        yield f"http://127.0.0.1:{found[1]}/v1"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert err.rstrip().endswith("Stopped.")
    finally:
        process.kill()
        process.communicate()


def commands() -> list[str]:
    found = [piece.text for piece in pieces(PAGE) if "lorita serve" in piece.text and piece.fenced]
    assert len(found) == 4
    return found


def first_one(number: int, command: str) -> pytest.ParameterSet:
    return pytest.param(command, id=command, marks=pytest.mark.slow if number else ())


@pytest.mark.parametrize("command", [first_one(n, c) for n, c in enumerate(commands())])
def test_the_commands_of_the_page(
    command: str, runs: Path, chat_base: Path, tmp_path: Path
) -> None:
    for source, name in (("red", "prompts"), ("blue", "spanish")):
        shutil.copytree(runs / source, tmp_path / "runs" / name)
    settings, _, rest = command.partition("lorita serve")
    extra = dict(setting.split("=", 1) for setting in settings.split())
    words = shlex.split(rest.replace("smollm2-135m", str(chat_base)))
    with started(["serve", *words], tmp_path, **extra) as url:
        client = openai.OpenAI(base_url=url, api_key=extra.get("LORITA_API_KEY", "none"))
        assert {"base", "prompts"} <= {model.id for model in client.models.list()}
        if extra or "--watch" in words:
            return
        snippet = re.search(r"^```py\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
        assert snippet
        text = snippet[1].replace("http://127.0.0.1:8000/v1", url)
        done = subprocess.run(
            [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr


def test_refused(
    runs: Path, chat_base: Path, llama: Path, server: Running, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("LORITA_API_KEY", raising=False)
    red = runs / "red"
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org"):
        assert "a key is needed" in refused(capsys, "serve", red, "--host", host)
    assert "8 or more" in refused(capsys, "serve", red, "--api-key", "short")
    assert "nothing to serve" in refused(capsys, "serve")
    assert "no such folder" in refused(capsys, "serve", "--watch", tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "lorita serve MODEL" in refused(capsys, "serve", "--watch", tmp_path / "empty")
    assert "no such run folder" in refused(capsys, "serve", tmp_path / "nothing")
    assert "from 0 to 2" in refused(capsys, "serve", red, "--temperature", "9", "--timeout", "0")
    port = server.url.rsplit(":", 1)[1].removesuffix("/v1")
    assert "--port" in refused(capsys, "serve", red, "--port", port)
    assert "one base" in refused(capsys, "serve", red, llama, "--port", "0")
    (tmp_path / "other").mkdir()
    shutil.copytree(red, tmp_path / "other" / "red")
    said = refused(capsys, "serve", red, tmp_path / "other" / "red", "--port", "0")
    assert "two models would be called red" in said


def test_a_checkpoint_is_called_after_its_run(tmp_path: Path) -> None:
    def name(folder: Path) -> str:
        return _name(Resolved(Base("base", "base"), folder))

    checkpoint = tmp_path / "red" / "checkpoint-6"
    checkpoint.mkdir(parents=True)
    assert name(checkpoint) == name(checkpoint.parent) == "red"  # of an unfinished run
    (checkpoint.parent / RECORD_FILE).touch()
    assert (name(checkpoint), name(checkpoint.parent)) == ("red-checkpoint-6", "red")
    assert name(tmp_path / "checkpoint-last") == "checkpoint-last"


def test_what_to_install_is_said(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "fastapi" else found(name, *a)
    )
    said = refused(capsys, "serve", runs / "red")
    assert "needs fastapi" in said
    assert 'pip install "lorita[serve]"' in said


def test_lorita_is_imported_without_the_extra() -> None:
    code = (
        "import sys, importlib, pkgutil\n"
        "for name in ('fastapi', 'uvicorn', 'starlette', 'prometheus_client', 'llguidance'):\n"
        "    sys.modules[name] = None\n"
        "import lorita, lorita.cli\n"
        "lorita.cli.run(['serve', '--help'])\n"
        "raise SystemExit(lorita.cli.run(['generate', '--help']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
