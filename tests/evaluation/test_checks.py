"""Each check detects what it is there to detect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from lorita.errors import CheckFailed, RunFailed
from lorita.evaluation.checks import check_adapter, check_moved, check_reload, require
from lorita.models.adapter import save_adapter
from lorita.models.adapter_files import WEIGHTS_FILE
from tests import tiny
from tests.runs.test_run import train

IDS = torch.tensor([[5, 6, 7, 8]])


def tuned(bias: str = "lora_only") -> PeftModel:
    config = LoraConfig(r=2, target_modules=["q_proj"], bias=bias, task_type="CAUSAL_LM")
    model = get_peft_model(tiny.make_model("llama"), config).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    return model


def failed(model: PeftModel, folder: Path) -> list[str]:
    checks = [*check_adapter(model, folder), *check_reload(model, folder, IDS)]
    return [check.name for check in checks if not check.passed]


def test_a_good_adapter_passes_and_is_left_as_it_was(tmp_path: Path) -> None:
    model = tuned()
    save_adapter(model, tmp_path)
    before = {name: p.clone() for name, p in model.named_parameters()}
    assert failed(model, tmp_path) == []
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_an_untrained_adapter(tmp_path: Path) -> None:
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(tiny.make_model("llama"), config).eval()
    save_adapter(model, tmp_path)
    assert failed(model, tmp_path) == ["lora_B is not all zeros"]


def test_a_file_that_is_not_what_was_trained(tmp_path: Path) -> None:
    model = tuned()
    save_adapter(model, tmp_path)
    tensors = load_file(tmp_path / WEIGHTS_FILE)
    name = next(name for name in tensors if "lora_B" in name)
    tensors[name] = tensors[name] * 1.5
    save_file(tensors, tmp_path / WEIGHTS_FILE)
    names = failed(model, tmp_path)
    assert "the file contains the trained tensors bit for bit" in names
    assert "the reloaded adapter produces identical logits" in names


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_a_trained_bias_that_is_not_in_the_file(tmp_path: Path, bias: str) -> None:
    model = tuned(bias)
    save_adapter(model, tmp_path)
    tensors = load_file(tmp_path / WEIGHTS_FILE)
    biases = [name for name in tensors if name.endswith(".bias")]
    assert biases
    changed = tensors | {biases[0]: tensors[biases[0]] + 1}
    del tensors[biases[0]]
    for broken in (tensors, changed):
        save_file(broken, tmp_path / WEIGHTS_FILE)
        check = check_adapter(model, tmp_path)[-1]
        assert check.name == "the file contains every trained bias" and not check.passed
        assert check.found == f"{len(biases) - 1} of {len(biases)}, bias {bias}"


def test_tensors_in_memory_that_are_not_finite(tmp_path: Path) -> None:
    model = tuned()
    save_adapter(model, tmp_path)
    next(p for n, p in model.named_parameters() if "lora_A" in n).data[0, 0] = float("inf")
    assert not check_adapter(model, tmp_path)[0].passed


def test_numbers_that_are_not_finite_are_not_even_written(tmp_path: Path) -> None:
    model = tuned()
    next(p for n, p in model.named_parameters() if "lora_A" in n).data[0, 0] = float("nan")
    with pytest.raises(RunFailed, match="not finite"):
        save_adapter(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_output_that_did_not_move() -> None:
    logits = torch.randn(9)
    check = check_moved([logits, logits], [logits + 1, logits.clone()])
    assert check.found.startswith("on 1 of 2")
    with pytest.raises(CheckFailed, match="failed: the output differs from the base"):
        require([check])
    assert check_moved([logits], [logits + 1e-3]).passed


def test_a_run_that_fails_a_check_says_which(
    llama: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learning rate is so small that no logit changes."""
    with pytest.raises(CheckFailed, match="failed: the output differs from the base") as raised:
        train(tmp_path / "still", llama, prompts, max_steps=1, learning_rate=1e-30)
    assert raised.value.exit_code == 1
    checks = json.loads((tmp_path / "still/lorita.json").read_text())["checks"]
    names = [c["name"] for c in checks if not c["passed"]]
    assert names == ["the output differs from the base model's"]

    def write_something_else(model: PeftModel, folder: Path) -> None:
        save_adapter(model, folder)
        tensors = load_file(folder / WEIGHTS_FILE)
        save_file({n: t * 2 for n, t in tensors.items()}, folder / WEIGHTS_FILE)

    monkeypatch.setattr("lorita.models.adapter.save_adapter", write_something_else)
    with pytest.raises(CheckFailed, match=r"check failed: .* bit for bit"):
        train(tmp_path / "run", llama, prompts, max_steps=1)


@pytest.mark.parametrize("bias", ["none", "all", "lora_only"])
def test_a_run_lists_its_checks(llama: Path, prompts: Path, tmp_path: Path, bias: str) -> None:
    train(tmp_path / "run", llama, prompts, max_steps=2, bias=bias)
    checks = json.loads((tmp_path / "run/lorita.json").read_text())["checks"]
    assert len(checks) == 6
    assert all(check["passed"] and check["found"] for check in checks)
