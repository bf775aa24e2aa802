"""A run continues only with what it began with; what changes its last digits needs a flag."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorita.engine.kernels import native
from lorita.errors import OutputError
from lorita.runs import identity
from lorita.training.events import Event, Note
from tests.runs.test_run import train
from tests.training import test_resume
from tests.training.test_resume import STATE, adapter, interrupted, resume

OPTIONS = test_resume.OPTIONS | {"proof": False, "max_new_tokens": 1}

MIDDLE = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def model(llama: Path, tmp_path: Path) -> Path:
    """A base of its own, which a test may change."""
    return Path(shutil.copytree(llama, tmp_path / "model"))


def change_weights(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors[MIDDLE] = tensors[MIDDLE] + 0.01
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


def change_tokenizer(model: Path) -> None:
    """Two letters change places, so that the vocabulary is of the same size."""
    text = json.loads((model / "tokenizer.json").read_text())
    vocab = text["model"]["vocab"]
    vocab["Q"], vocab["Z"] = vocab["Z"], vocab["Q"]
    (model / "tokenizer.json").write_text(json.dumps(text))


@pytest.mark.parametrize(
    ("change", "said"),
    [(change_weights, "base weights: not the same"), (change_tokenizer, "tokenizer: not the same")],
)
def test_another_base_under_the_same_path(
    model: Path, prompts: Path, tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    run = tmp_path / "run"
    interrupted(run, model, prompts, after=2, **OPTIONS)
    change(model)
    with pytest.raises(OutputError, match=said):
        resume(run, resume_inexact=True)  # no flag allows it


def test_more_rows_per_step_are_another_run(llama: Path, prompts: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    interrupted(run, llama, prompts, after=2, **OPTIONS)
    with pytest.raises(OutputError, match="rows per step was 4, is now 8"):
        resume(run, gradient_accumulation_steps=2)


def test_rows_divided_in_another_way_are_the_same(
    llama: Path, prompts: Path, tmp_path: Path
) -> None:
    train(tmp_path / "whole", llama, prompts, **OPTIONS)
    run = tmp_path / "run"
    interrupted(run, llama, prompts, after=2, **OPTIONS)
    resume(run, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    assert adapter(run) == adapter(tmp_path / "whole")


def other_kernels(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(native, "build", lambda: "plain torch, because no C++ compiler was found")


def other_versions(patch: pytest.MonkeyPatch) -> None:
    before = identity.versions()
    patch.setattr(identity, "versions", lambda: before | {"torch": "0.4.0"})


def other_processor(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NO AVX")


def other_variables(patch: pytest.MonkeyPatch) -> None:
    patch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")


def other_threads(patch: pytest.MonkeyPatch) -> None:
    now = torch.get_num_threads()
    patch.setattr(torch, "get_num_threads", lambda: now + 1)
    patch.setattr(torch, "set_num_threads", lambda threads: None)  # else it stays for later tests


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_kernels, "kernels was '[0-9a-f]{8}', is now 'plain torch"),
        (other_versions, "torch was .* is now '0.4.0'"),
        (other_processor, "instructions was .* is now 'NO AVX'"),
        (other_variables, "variables was .*ONEDNN_MAX_CPU_ISA"),
        (other_threads, "threads was"),
    ],
)
def test_what_changes_the_last_digits_needs_a_flag(
    llama: Path,
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[pytest.MonkeyPatch], None],
    said: str,
) -> None:
    run = tmp_path / "run"
    interrupted(run, llama, prompts, after=2, **OPTIONS)
    with monkeypatch.context() as patch:
        change(patch)
        with pytest.raises(OutputError, match=said) as caught:
            resume(run)
        assert "--resume-inexact" in str(caught.value)
        events = resume(run, resume_inexact=True)
    warnings = [e.text for e in events if isinstance(e, Note) and e.is_warning]
    assert any("the result will differ in its last digits" in text for text in warnings)


def from_another_folder(
    tmp_path: Path, llama: Path, prompts: Path, step: int, **options: Any
) -> tuple[Path, Path]:
    """A run that continues in its own folder from a checkpoint of a finished run in another."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    saved = {"save_steps": 3, "save_total_limit": 5}
    train(whole, llama, prompts, **OPTIONS | saved, **options)
    checkpoint = str(whole / f"checkpoint-{step}")
    train(run, llama, prompts, **OPTIONS, **options, resume_from_checkpoint=checkpoint)
    return whole, run


@pytest.mark.parametrize("step", [6, 9])
def test_from_the_checkpoint_of_another_folder(
    llama: Path, prompts: Path, tmp_path: Path, step: int
) -> None:
    """The last one included, after which no step is left: its record has the losses of the run."""
    whole, run = from_another_folder(tmp_path, llama, prompts, step)
    assert adapter(run) == adapter(whole)
    figures = [json.loads((f / "lorita.json").read_text())["figures"] for f in (whole, run)]
    assert figures[0]["final_training_loss"] == figures[1]["final_training_loss"]
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in log if e["event"] == "StepDone"] == list(range(1, 10))


def test_the_best_checkpoint_is_found_in_the_folder_it_came_from(
    llama: Path, prompts: Path, tmp_path: Path
) -> None:
    best = {"load_best_model_at_end": True, "eval_steps": 3}
    whole, run = from_another_folder(tmp_path, llama, prompts, 9, **best)
    assert adapter(run) == adapter(whole)


def test_when_the_log_is_lost(llama: Path, prompts: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(run, llama, prompts, **OPTIONS, save_steps=3)
    loss = json.loads((run / "lorita.json").read_text())["figures"]["final_training_loss"]
    (run / "log.jsonl").unlink()
    resume(run)
    assert json.loads((run / "lorita.json").read_text())["figures"]["final_training_loss"] == loss


def test_a_checkpoint_of_an_earlier_version_says_what_it_lacks(
    llama: Path, prompts: Path, tmp_path: Path
) -> None:
    from lorita.training.checkpoint_state import read_state, sealed

    run = tmp_path / "run"
    interrupted(run, llama, prompts, after=2, **OPTIONS)
    state = read_state(run / "checkpoint-2")
    del state["conditions"], state["identity"]["base weights"], state["identity"]["tokenizer"]
    (run / "checkpoint-2" / STATE).write_text(sealed(state))
    events: list[Event] = resume(run)
    warnings = [e.text for e in events if isinstance(e, Note) and e.is_warning]
    assert any("without base weights, tokenizer and the machine" in text for text in warnings)
