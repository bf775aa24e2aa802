"""One rule for the repetition penalty, wherever answers come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lorita
from lorita.cli import run as command
from lorita.data.tokens.prompt_format import CHAT_PENALTY, TEXT_PENALTY, PromptFormat
from lorita.errors import LoritaWarning
from lorita.inference import generation, llamacpp, streaming
from lorita.inference.generation import GenerationOptions, Question, answer
from lorita.settings.schema import RunSettings
from tests import tiny
from tests.export import models
from tests.export.ollama.test_ollama import values
from tests.inference.test_conversation import TEMPLATE, tuned
from tests.runs import test_chat_run
from tests.runs.test_run import train

CHAT = PromptFormat("chat", TEMPLATE)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The penalties that answers were generated with, through whatever way."""
    found: list[float] = []
    steered, ask = llamacpp._steered, generation.request

    def request(prompt: Any, options: Any, *more: Any) -> Any:
        found.append(options.penalty)
        return ask(prompt, options, *more)

    def body(options: Any) -> Any:
        found.append(steered(options)["repeat_penalty"])
        return steered(options)

    monkeypatch.setattr(generation, "request", request)
    monkeypatch.setattr(streaming, "request", request)
    monkeypatch.setattr("lorita.inference.llamacpp._steered", body)
    return found


@pytest.mark.parametrize(
    ("chats", "own", "expected"),
    [(False, {}, TEXT_PENALTY), (True, {}, CHAT_PENALTY), (True, {"repetition_penalty": 1.3}, 1.3)],
)
def test_one_penalty_for_a_run(
    chats: bool,
    own: dict[str, float],
    expected: float,
    used: list[float],
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "cache"))
    base = models.save_base(tmp_path / "base", "llama")
    run, more = tmp_path / "run", {"max_steps": 1, "proof": False, "max_new_tokens": 2, **own}
    if chats:
        rows = test_chat_run.chats(tmp_path / "rows.jsonl", system="")
        result = test_chat_run.train(run, base, rows, **more)
    else:
        result = train(run, base, prompts, **more)
    result.generate("tea?", max_new_tokens=2)
    lorita.load(run).generate_batch(["tea?"], max_new_tokens=2)
    short = ("--max-new-tokens", "2")
    engines = ((), ("--engine", "llama.cpp")) if llamacpp.is_installed() else ((),)
    for engine in engines:
        assert command(["generate", str(run), "tea?", *short, *engine]) == 0
        assert command(["compare", str(run), "--prompt", "tea?", *short, *engine]) == 0
    monkeypatch.setattr("sys.stdin", iter(["tea?\n"]))
    monkeypatch.setattr("lorita.cli.chat._lines", lambda: iter(["tea?"]))
    monkeypatch.setattr("lorita.cli.chat.sys.stdin", _NoTerminal())
    assert command(["chat", str(run), *short]) == 0
    assert len(used) >= 7 and set(used) == {expected}
    assert command(["export", "ollama", str(run), str(tmp_path / "out"), "--merged"]) == 0
    said = values((tmp_path / "out/Modelfile").read_text())
    assert said["PARAMETER repeat_penalty"] == [f"{expected:g}"]
    assert said["PARAMETER repeat_last_n"] == ["-1"]
    used.clear()
    assert command(["generate", str(run), "tea?", *short, "--repetition-penalty", "1.2"]) == 0
    assert set(used) == {1.2}


class _NoTerminal:
    def isatty(self) -> bool:
        return False


def test_texts_and_chats_in_one_batch(used: list[float]) -> None:
    model, tokenizer = tiny.make_model("llama"), tiny.make_tokenizer()
    mixed = [Question("a", PromptFormat()), Question("b", CHAT), Question("c", PromptFormat())]
    both = answer(model, tokenizer, mixed, GenerationOptions(4))
    assert set(used) == {CHAT_PENALTY, TEXT_PENALTY}
    for question, found in zip(mixed, both, strict=True):
        assert answer(model, tokenizer, [question], GenerationOptions(4)) == [found]


def test_the_help_states_the_rule(capsys: pytest.CaptureFixture[str]) -> None:
    texts = [str(RunSettings.model_fields["repetition_penalty"].description)]
    for words in (["generate"], ["compare"], ["chat"], ["export", "ollama"]):
        command([*words, "--help"])
        texts.append(" ".join(capsys.readouterr().out.replace("│", " ").split()))
    for text in texts:
        assert f"{TEXT_PENALTY} for texts" in text and f"{CHAT_PENALTY} for chats" in text


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p", "seed"])
def test_sampling_options_without_sampling(name: str) -> None:
    value = {"temperature": 0.7, "top_k": 5, "top_p": 0.9, "seed": 7}[name]
    with pytest.warns(LoritaWarning, match=f"{name} does nothing.*--do-sample"):
        tuned().generate("a cook", max_new_tokens=2, **{name: value})
    tuned().generate("a cook", max_new_tokens=2, do_sample=True, **{name: value})
