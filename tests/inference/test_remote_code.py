"""Code that comes with a model is run only if this command allows it, whatever an adapter says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import lorita
from lorita import cli
from lorita.errors import LoritaError
from tests import tiny
from tests.command import refused
from tests.foreign_code import MODELLING


@pytest.fixture(autouse=True)
def _own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture
def base(tmp_path: Path, canary: Path) -> Path:
    """A model whose code writes a file as soon as it is imported."""
    folder = tiny.save_model(tmp_path / "base")
    (folder / "modeling_odd.py").write_text(MODELLING.format(canary=str(canary)))
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "odd",
        "architectures": ["OddForCausalLM"],
        "auto_map": {
            "AutoConfig": "modeling_odd.OddConfig",
            "AutoModelForCausalLM": "modeling_odd.OddForCausalLM",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def run(base: Path, canary: Path, prompts: Path, tmp_path: Path) -> Path:
    """A run on that base, made by somebody who trusted it; its files ask for the same."""
    folder = tmp_path / "run"
    lorita.train(
        model=str(base), data=str(prompts), text_field="prompt", max_steps=1, proof=False,
        max_new_tokens=2, trust_remote_code=True, use_cpu=True, output_dir=folder, probe=False,
        on_event=lambda event: None,
    )  # fmt: skip
    assert canary.exists()
    assert json.loads((folder / "lorita.json").read_text())["base"]["trust_remote_code"]
    canary.unlink()
    return folder


COMMANDS = [
    ["generate", "RUN", "hello", "--max-new-tokens", "2"],
    ["chat", "RUN"],
    ["compare", "RUN", "--prompt", "hello"],
    ["evaluate", "RUN"],
    ["merge", "RUN", "OUT"],
    ["export", "gguf", "RUN", "OUT.gguf"],
    ["export", "ollama", "RUN", "OUT"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:2]))
def test_commands_ask_first(
    words: list[str], run: Path, canary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [w.replace("RUN", str(run)).replace("OUT", str(tmp_path / "out")) for w in words]
    said = refused(capsys, *words)
    assert "runs Python code from its own files" in said
    assert "--trust-remote-code" in said
    assert not canary.exists()


def test_python_asks_first(run: Path, canary: Path) -> None:
    with pytest.raises(LoritaError, match="Python code from its own files"):
        lorita.load(run)
    with pytest.raises(LoritaError, match="Python code from its own files"):
        lorita.evaluate(run)
    assert not canary.exists()


def test_it_runs_when_it_is_allowed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", str(run), "hello", "--max-new-tokens", "2", "--trust-remote-code"]
    assert cli.run(words) == 0
    assert "hello" in capsys.readouterr().out
    assert lorita.load(run, trust_remote_code=True).generate("hello", max_new_tokens=2) is not None


@pytest.mark.parametrize("record", [True, False])
def test_an_adapter_of_another_tool_is_not_obeyed_either(
    record: bool, base: Path, run: Path, canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without lorita's record, and with one that does not ask: the base's own config does."""
    if record:
        known: dict[str, Any] = json.loads((run / "lorita.json").read_text())
        known["base"]["trust_remote_code"] = False
        (run / "lorita.json").write_text(json.dumps(known))
    else:
        (run / "lorita.json").unlink()
        (run / "run.yaml").unlink()
    assert "--trust-remote-code" in refused(capsys, "generate", run, "hello")
    assert not canary.exists()


def test_plain_bases_need_no_trust(prompts: Path, tmp_path: Path) -> None:
    """An adapter of another tool on an ordinary base is used as before."""
    plain = tiny.save_model(tmp_path / "plain")
    model = AutoModelForCausalLM.from_pretrained(plain)
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(
        tmp_path / "adapter"
    )
    tuned = lorita.load(tmp_path / "adapter", base=str(plain))
    assert not tuned.base.trust_remote_code
