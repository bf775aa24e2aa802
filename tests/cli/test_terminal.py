"""What others wrote never controls the terminal: each command shows it escaped."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from lorita.cli import COMMANDS, EXPORTS, run
from lorita.system.terminal_text import EscapedStream, escaped_streams, json_text, shown
from tests import tiny

EVIL = "\x1b]0;mine\x07\x1b[31mred\x9b2J\u202eback\u2066\u2028\x7f\b\r[/none][bold]:smile:"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
NAME = EVIL.replace("/", "")  # as part of a path
DRAWN = re.compile(r"\x1b\[(?!31mred)[\d;]*m|\x1b\[2K|\x1b\[\d*A|\x1b\[\?25[lh]|\r(?=[\n\x1b])")
"""What rich writes: colours, and how it draws a bar anew."""
READS_NOTHING = ("doctor", "completion", "studio")
"""Commands that read nothing that others wrote, or show it in a browser."""
NAMES_NOTHING = ("targets", "plan", "evaluate")
"""Commands that show nothing that others wrote."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("models") / f"model{NAME}")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / f"rows{NAME}.jsonl"
    lines = [
        json.dumps({"text": f"{EVIL} {text}", f"more{EVIL}": EVIL}, ensure_ascii=False)
        for text in tiny.make_texts(12)
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def trained(model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / f"run{NAME}"
    assert run(["train", *training(model, rows), f"--output-dir={folder}"]) == 0
    return folder


def options(model: Path, rows: Path) -> list[str]:
    return [f"--model={model}", f"--data={rows}"]


def training(model: Path, rows: Path) -> list[str]:
    few = ["--max-steps=1", "--max-new-tokens=4", "--no-proof"]
    return [*options(model, rows), f"--compare-prompt=say {EVIL}", *few]


Case = Callable[[Path, Path, Path, Path], list[str]]
CASES: dict[str, Case] = {
    "demo": lambda m, d, r, out: ["demo", f"--output-dir={d}/{NAME}"],
    "preview": lambda m, d, r, out: ["preview", *options(m, d)],
    "preview --json": lambda m, d, r, out: ["preview", "--json", *options(m, d)],
    "train": lambda m, d, r, out: ["train", *training(m, d), f"--output-dir={out}"],
    "sweep": lambda m, d, r, out: ["sweep", *training(m, d), "--r=1,2", f"--output-dir={out}"],
    "plan": lambda m, d, r, out: ["plan", *training(m, d), "--no-probe"],
    "targets": lambda m, d, r, out: ["targets", str(m)],
    "generate": lambda m, d, r, out: ["generate", str(r), EVIL, "--max-new-tokens=4"],
    "chat": lambda m, d, r, out: ["chat", str(r), "--max-new-tokens=4"],
    "evaluate": lambda m, d, r, out: ["evaluate", str(r)],
    "compare": lambda m, d, r, out: ["compare", str(r)],
    "serve": lambda m, d, r, out: ["serve", f"{r}{EVIL}"],
    "runs": lambda m, d, r, out: ["runs", str(r)],
    "report": lambda m, d, r, out: ["report", str(r), f"--output={out}.html"],
    "push": lambda m, d, r, out: ["push", str(r), f"me/{EVIL}"],
    "merge": lambda m, d, r, out: ["merge", str(r), str(out)],
    "export gguf": lambda m, d, r, out: ["export", "gguf", str(r), f"{out}.gguf"],
    "export llama-server": lambda m, d, r, out: ["export", "llama-server", str(r), str(out)],
    "export ollama": lambda m, d, r, out: ["export", "ollama", str(r), str(out)],
}


def test_every_command_has_a_case() -> None:
    names = {*COMMANDS, *(f"export {name}" for name in EXPORTS)} - {"export", *READS_NOTHING}
    assert names <= CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_nothing_controls_the_terminal(
    name: str,
    model: Path,
    rows: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a question\n"))
    monkeypatch.setattr("lorita.inference.tuned_model.TunedModel.answer", lambda *_, **__: [EVIL])
    monkeypatch.setattr("lorita.inference.conversation.stream", lambda *_: iter(EVIL))
    code = run(CASES[name](model, rows, trained, tmp_path / f"out{NAME}"))
    said = capsys.readouterr()
    both = said.out + said.err
    assert RAW.search(both) is None, both
    # llama.cpp cannot load this model's tokenizer, which ends an export with a failed check.
    failed = "llama.cpp cannot load this file" in both
    assert code in (0, 2) or (code == 1 and failed), both
    assert both
    if name == "preview --json":
        tokens = json.loads(said.out)["first_rows"][0]["tokens"]
        assert EVIL in "".join(token["text"] for token in tokens)
    elif name not in NAMES_NOTHING:
        assert r"\x1b]0;mine\x07" in both


def test_what_is_escaped() -> None:
    assert shown(EVIL + "\udcff") == (
        r"\x1b]0;mine\x07\x1b[31mred\x9b2J\u202eback\u2066\u2028\x7f\x08\r[/none][bold]:smile:\udcff"
    )
    for text in ("tab\tand\nlines", "ÑÇ 漢字 👩‍🚀 می‌خواهم", "\u200eleft\u200f", "\\x1b"):
        assert shown(text) == text
    assert json.loads(json_text({EVIL: [EVIL]})) == {EVIL: [EVIL]}
    assert RAW.search(json_text({EVIL: [EVIL]})) is None


def test_download_bars_still_move_and_nothing_else_does() -> None:
    error = io.StringIO()
    stream = EscapedStream(error, bars=True)
    for text in ("\r 10%", "\n\x1b[A", "\r\x1b[31m\r", "\x1b[A!"):
        assert stream.write(text) == len(text)
    assert error.getvalue() == "\r 10%\n\x1b[A\r\\x1b[31m\\r\\x1b[A!"


def test_warnings_and_logs_of_libraries_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    with escaped_streams():
        print(warnings.formatwarning(EVIL, UserWarning, "file", 1), file=sys.stderr)
        handler = logging.StreamHandler()
    handler.handle(logging.makeLogRecord({"msg": EVIL}))
    said = capsys.readouterr().err
    assert said.count(r"\x1b]0;mine\x07") == 2 and RAW.search(said) is None


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
@pytest.mark.parametrize("name", ["preview", "train", "compare", "generate"])
def test_in_a_terminal_only_colours_and_bars_are_lorita_s_own(
    name: str,
    model: Path,
    rows: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "400")
    with terminal(monkeypatch) as said:
        assert run(CASES[name](model, rows, trained, tmp_path / f"out{NAME}")) == 0
    text = b"".join(said).decode()
    assert "\x1b[" in text  # rich draws
    assert r"\x1b]0;mine\x07" in DRAWN.sub("", text)
    assert RAW.search(DRAWN.sub("", text)) is None, text


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """A pseudo-terminal as standard output and error; afterwards, what was written to it."""
    import pty

    ours, its = pty.openpty()
    said: list[bytes] = []
    reader = Thread(target=lambda: said.extend(iter(lambda: _read(ours), b"")))
    reader.start()
    with open(its, "w", encoding="utf-8") as screen:  # noqa: PTH123  (a handle, not a path)
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setattr(sys, "stderr", screen)
        yield said
        monkeypatch.undo()
    reader.join()
    os.close(ours)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 2**16)
    except OSError:  # on Linux, the end
        return b""
