"""Conversations: the pieces add up to the whole answer, and earlier turns are remembered."""

from __future__ import annotations

import io
import os
import pty
import select
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from lorita.cli import run as command
from lorita.data.tokens.chat_template import ChatTemplate
from lorita.data.tokens.prompt_format import PromptFormat
from lorita.errors import SettingsError
from lorita.inference.conversation import Conversation
from lorita.inference.generation import generate
from lorita.inference.options import GenerationOptions
from lorita.inference.streaming import stream
from lorita.inference.tuned_model import TunedModel
from lorita.models.base import Base
from tests import tiny
from tests.command import environment

TEMPLATE = ChatTemplate(
    "t",
    "{% for m in messages %}{{ m.role[0] + ':' + m.content + '<end>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'a:' }}{% endif %}",
    {"eos_token": "<eos>"},
)
OPTIONS = GenerationOptions(max_new_tokens=8, repetition_penalty=1.2)


def tuned(form: PromptFormat | None = None) -> TunedModel:
    model = tiny.make_model("llama")
    return TunedModel(model, tiny.make_tokenizer(), Base("tiny", "tiny"), form or PromptFormat())


@pytest.mark.parametrize("family", ["llama", "bloom", "gpt2"])
@pytest.mark.parametrize("sampled", [False, True])
def test_pieces_are_the_answer(family: str, sampled: bool) -> None:
    model, tokenizer = tiny.make_model(family), tiny.make_tokenizer()
    options = GenerationOptions(20, 1.3, do_sample=sampled, temperature=2.0)
    for form in (PromptFormat(), PromptFormat("chat", TEMPLATE)):
        pieces = list(stream(model, tokenizer, form.ids(tokenizer, "a cook"), form, options))
        assert len(pieces) > 1 or family == "bloom"  # which writes incomplete characters here
        assert "".join(pieces) == generate(model, tokenizer, ["a cook"], options, form)[0]


def test_a_closed_answer_stops_the_model() -> None:
    model, tokenizer = tiny.make_model("llama"), tiny.make_tokenizer()
    before = threading.active_count()
    pieces = stream(
        model, tokenizer, [1, 2], PromptFormat(), GenerationOptions(max_new_tokens=100_000)
    )
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_errors_in_the_model_reach_the_caller() -> None:
    model, tokenizer = tiny.make_model("gpt2"), tiny.make_tokenizer()
    with pytest.raises(IndexError):
        list(stream(model, tokenizer, [10_000], PromptFormat(), OPTIONS))


def test_turns_are_remembered() -> None:
    talk = Conversation(tuned(PromptFormat("chat", TEMPLATE, "s")), OPTIONS)
    first = "".join(talk.say("tea?"))
    assert talk.turns == [
        {"role": "user", "content": "tea?"},
        {"role": "assistant", "content": first},
    ]
    asked = talk.tuned.prompt_format.chat_ids(
        talk.tuned.tokenizer, [*talk.turns, {"role": "user", "content": "bread?"}]
    )
    assert talk.tuned.tokenizer.decode(asked) == (
        f"s:s<end>u:tea?<end>a:{first}<end>u:bread?<end>a:"
    )
    "".join(talk.say("bread?"))
    assert len(talk.turns) == 4
    talk.reset()
    assert "".join(talk.say("tea?")) == first


def test_the_oldest_turns_are_dropped_when_they_no_longer_fit() -> None:
    talk = Conversation(tuned(PromptFormat("chat", TEMPLATE)), OPTIONS)
    for number in range(6):
        "".join(talk.say(f"{number}" * 20))
    assert talk.forgotten > 0
    assert talk.turns[-2]["content"] == "5" * 20
    with pytest.raises(SettingsError, match="limit of 128"):
        "".join(talk.say("x" * 200))
    assert talk.turns[-2]["content"] == "5" * 20  # the question that was refused is not a turn


def test_plain_text_has_no_memory() -> None:
    talk = Conversation(tuned(), OPTIONS)
    assert "".join(talk.say("a cook")) == "".join(talk.say("a cook"))
    assert talk.turns == []
    with pytest.raises(SettingsError, match="needs a chat template"):
        Conversation(tuned(), OPTIONS, system="be kind")


def test_the_command(
    llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Questions come from standard input; a base model without a template continues each line."""
    monkeypatch.setattr("sys.stdin", io.StringIO("a cook\n\n/reset\na cook\n/exit\nnot asked\n"))
    assert command(["chat", str(llama), "--max-new-tokens", "5", "--dtype", "float32"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert command(["chat", str(llama), "--max-new-tokens", "0"]) == 2
    assert "max_new_tokens" in capsys.readouterr().err


def test_the_command_says_what_does_not_fit(
    llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * 300 + "\na cook\n"))
    assert command(["chat", str(llama), "--max-new-tokens", "5"]) == 0
    said = capsys.readouterr()
    assert "more than this model's limit of 128" in said.err
    assert len(said.out.splitlines()) == 2


def test_the_command_says_that_an_answer_is_empty(
    llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Conversation, "say", lambda *_: (piece for piece in (" ", "\n")))
    monkeypatch.setattr("sys.stdin", io.StringIO("a cook\n"))
    assert command(["chat", str(llama), "--dtype", "float32"]) == 0
    assert "The answer is empty" in capsys.readouterr().err


def test_in_a_terminal(llama: Path) -> None:
    """Ctrl-C at the prompt starts a new one; Ctrl-D exits."""
    pid, terminal = pty.fork()
    if pid == 0:
        # Background jobs of a script ignore Ctrl-C, and their children inherit that.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        words = ["-m", "lorita", "chat", str(llama), "--max-new-tokens", "5"]
        os.execve(sys.executable, [sys.executable, *words], environment())
    seen = b""

    def shows(words: bytes, seconds: float) -> bool:
        nonlocal seen
        deadline = time.monotonic() + seconds
        while words not in seen:
            left = max(deadline - time.monotonic(), 0)
            if not select.select([terminal], [], [], left)[0]:
                return False
            seen += os.read(terminal, 4096)
        seen = seen.partition(words)[2]
        return True

    try:
        assert shows(b"No chat template", 120)
        assert shows(b"> ", 60)
        # Repeated, because Python sees a signal that arrives just before readline starts to wait
        # only at the next key.
        assert any(os.write(terminal, b"\x03") and shows(b"> ", 5) for _ in range(10))
        os.write(terminal, b"a cook\n")
        assert shows(b"a cook", 60)
        assert shows(b"> ", 60)
        os.write(terminal, b"\x04")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
