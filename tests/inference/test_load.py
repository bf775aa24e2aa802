"""One door to a model: what a name means, and the same checks whoever comes in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

import lorita
from lorita.cli import run as command
from lorita.errors import AdapterError
from lorita.inference.answers import Answers
from lorita.inference.generation import GenerationOptions
from lorita.inference.load import open_model
from lorita.inference.resolve import Resolved, resolve
from lorita.models.adapter import save_adapter
from lorita.models.base import find_base
from tests import tiny
from tests.runs.test_run import train

PROMPTS = ["I act as ", "a gardener"]
GREEDY = GenerationOptions(max_new_tokens=8, repetition_penalty=1.0)


@pytest.mark.parametrize(
    "options", [{}, {"bias": "all"}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}]
)
def test_the_bare_base_under_an_adapter(
    options: dict[str, Any], llama: Path, prompts: Path, tmp_path: Path
) -> None:
    """It answers as the base does alone, and the adapter as before it was switched off."""
    run = tmp_path / "run"
    train(run, llama, prompts, learning_rate=5e-2, proof=False, **options)
    alone = open_model(resolve(llama), "float32").answer(PROMPTS, GREEDY)
    model: Answers = open_model(resolve(run), "float32")
    tuned = model.answer(PROMPTS, GREEDY)
    assert model.answer(PROMPTS, GREEDY, with_adapter=False) == alone != tuned
    assert model.answer(PROMPTS, GREEDY) == tuned


def test_the_bare_base_under_an_adapter_that_changed_its_weights(
    llama: Path, tmp_path: Path
) -> None:
    """PiSSA takes a part of the base's weights out when it is put on."""
    base = tiny.make_model("llama")
    base.name_or_path = str(llama)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights="pissa")
    tuned = get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.3)
    save_adapter(tuned, tmp_path)
    alone = open_model(resolve(llama), "float32").answer(PROMPTS, GREEDY)
    model = open_model(resolve(tmp_path), "float32")
    assert model.answer(PROMPTS, GREEDY, with_adapter=False) == alone
    assert model.answer(PROMPTS, GREEDY) != alone


def test_what_a_name_means(llama: Path, prompts: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(run, llama, prompts, max_steps=1, proof=False)
    found = resolve(run)
    assert (found.folder, found.base.location) == (run, str(llama))
    assert found.record is not None and found.record.data.train_rows == 22
    bare = resolve(llama)
    assert bare == Resolved(find_base(str(llama)))
    with pytest.raises(AdapterError, match="base model, without an adapter"):
        _ = bare.adapter


@pytest.mark.parametrize(
    "words",
    [
        ["generate", "RUN", "I act"],
        ["generate", "RUN", "I act", "--engine", "llama.cpp"],
        ["compare", "RUN", "--prompt", "I act"],
        ["compare", "RUN", "--prompt", "I act", "--engine", "llama.cpp"],
        ["evaluate", "RUN"],
        ["merge", "RUN", "OUT"],
        ["export", "gguf", "RUN", "OUT.gguf"],
        ["export", "ollama", "RUN", "OUT"],
        ["chat", "RUN"],
    ],
    ids=" ".join,
)
def test_another_base_is_refused_by_every_command(
    words: list[str],
    llama: Path,
    prompts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same shapes with other weights: nothing but the fingerprint tells."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "cache"))
    run, other = tmp_path / "run", tmp_path / "other"
    train(run, llama, prompts, max_steps=1, proof=False)
    tiny.make_model("llama", seed=1).save_pretrained(other)
    tiny.make_tokenizer().save_pretrained(other)
    places = {"RUN": str(run), "OUT": str(tmp_path / "out"), "OUT.gguf": str(tmp_path / "o.gguf")}
    code = command([*(places.get(word, word) for word in words), "--base", str(other)])
    captured = capsys.readouterr()
    assert code == 2, captured
    assert "was trained on another base than" in captured.err
    assert not (tmp_path / "out").exists() and not (tmp_path / "o.gguf").exists()


def test_another_base_is_refused_among_several_adapters(
    llama: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Loaded together or merged together: each adapter must belong to the base."""
    other = tmp_path / "other"
    tiny.make_model("llama", seed=1).save_pretrained(other)
    tiny.make_tokenizer().save_pretrained(other)
    for name, base in (("a", llama), ("b", other)):
        train(tmp_path / name, base, prompts, max_steps=1, proof=False)
    runs = {name: str(tmp_path / name) for name in "ab"}
    with pytest.raises(AdapterError, match="b was trained on another base"):
        lorita.load(str(llama), adapters=runs, dtype="float32")
    code = command(["merge", runs["a"], str(tmp_path / "out"), "--adapter", runs["b"]])
    assert code == 2 and "b was trained on another base" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
