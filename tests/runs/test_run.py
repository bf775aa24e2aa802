"""A whole run on tiny models: what is written, that it loads, that it repeats."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

import lorita
from lorita.errors import Interrupted, OutputError, SettingsError
from lorita.training.events import Event, StepDone, TrainingStarted
from tests import tiny
from tests.command import environment
from tests.forks import start

FILES = {
    ".lorita-files",
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "compare.json",
    "compare.md",
    "log.jsonl",
    "loss.png",
    "loss.svg",
    "lorita.json",
    "report.html",
    "run.yaml",
    "tokenizer.json",
    "tokenizer_config.json",
}


def train(run: Path, model: Path, data: Path, **options: Any) -> lorita.RunResult:
    given: dict[str, Any] = {
        "dtype": "float32",
        "text_field": "prompt",
        "learning_rate": 1e-2,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "max_new_tokens": 8,
        "use_cpu": True,
        "on_event": lambda event: None,
    }
    return lorita.train(model=str(model), data=str(data), output_dir=run, **given | options)


def test_run_folder_and_every_way_to_load_it(llama: Path, prompts: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train(run, llama, prompts, lora_dropout=0.05, compare_prompt="I act as ")

    assert {file.name for file in run.iterdir()} == FILES
    assert result.losses[-1] < result.losses[0]
    comparison = json.loads((run / "compare.json").read_text())
    assert [answer["prompt"] for answer in comparison["answers"]] == ["I act as "]
    assert comparison["held_out"]["after"] < comparison["held_out"]["before"]
    assert comparison["answers"][0]["before"] != comparison["answers"][0]["after"]

    tuned = lorita.load(run, dtype="float32")
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llama), str(run)).eval()
    ids = torch.tensor([tuned.tokenizer("I act as ")["input_ids"]])
    with torch.no_grad():
        assert torch.equal(tuned.model(input_ids=ids).logits, plain(input_ids=ids).logits)
    answer = tuned.generate("I act as ", max_new_tokens=8)
    assert answer == comparison["answers"][0]["after"]
    assert answer == result.generate("I act as ", max_new_tokens=8)
    assert str(result.compare()) == (run / "compare.md").read_text()


@pytest.mark.parametrize("bias", ["none", "all", "lora_only"])
def test_bloom_end_to_end(bloom: Path, prompts: Path, tmp_path: Path, bias: str) -> None:
    run = tmp_path / "run"
    result = train(run, bloom, prompts, bias=bias, target_modules="query_key_value")
    tuned = lorita.load(run, dtype="float32")
    assert tuned.generate("I act", max_new_tokens=8) == result.generate("I act", max_new_tokens=8)
    assert result.losses[-1] < result.losses[0]


def test_a_row_that_does_not_fit_is_computed_in_less_memory(
    llama: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Activations are computed again where the longest row would need more than is free."""
    plain = train(tmp_path / "plain", llama, prompts, lora_dropout=0.1)
    monkeypatch.setattr("lorita.runs.run_model.available_memory", lambda: 50_000)
    notes: list[str] = []
    tight = train(
        tmp_path / "tight", llama, prompts, lora_dropout=0.1,
        on_event=lambda event: notes.append(str(event)),
    )  # fmt: skip
    assert any("as with --gradient-checkpointing" in note for note in notes)
    assert tight.losses == pytest.approx(plain.losses, rel=1e-5)


def test_int8_trains_and_is_measured_without(llama: Path, prompts: Path, tmp_path: Path) -> None:
    """The adapter is another one, near by; held-out losses are those of the base in its dtype."""
    notes: list[str] = []
    held_out = tiny.write_csv(tmp_path / "held.csv", ["Rain on a tin roof.", "Nine small boats."])
    options: dict[str, Any] = {"eval_data": str(held_out)}
    plain = train(tmp_path / "plain", llama, prompts, **options)
    narrow = train(
        tmp_path / "int8", llama, prompts, base_precision="int8",
        on_event=lambda event: notes.append(str(event)), **options,
    )  # fmt: skip
    assert any("8-bit integers" in note for note in notes)
    assert narrow.losses != plain.losses
    assert narrow.losses == pytest.approx(plain.losses, rel=0.05)
    before = [r.comparison.held_out for r in (plain, narrow)]
    assert before[0] is not None
    assert before[1] is not None
    assert before[0].before == pytest.approx(before[1].before, rel=1e-6)


def test_options_reach_the_adapter(llama: Path, prompts: Path, tmp_path: Path) -> None:
    train(
        tmp_path / "run",
        llama,
        prompts,
        max_steps=1,
        r=4,
        lora_alpha=8,
        use_rslora=True,
        target_modules="q_proj,v_proj,up_proj",
        exclude_modules="up_proj",
        layers_to_transform="1",
        rank_pattern={"q_proj": 2},
        init_lora_weights="gaussian",
    )
    config = json.loads((tmp_path / "run/adapter_config.json").read_text())
    assert config["r"] == 4
    assert config["use_rslora"] is True
    assert config["layers_to_transform"] == [1]
    from safetensors.torch import load_file

    tensors = load_file(tmp_path / "run/adapter_model.safetensors")
    assert {name.split(".")[4] for name in tensors} == {"1"}
    ranks = {n.split(".")[6]: t.shape[0] for n, t in tensors.items() if "lora_A" in n}
    assert ranks == {"q_proj": 2, "v_proj": 4}


def test_template_and_held_out_rows(llama: Path, prompts: Path, tmp_path: Path) -> None:
    started: list[TrainingStarted] = []

    def watch(event: Event) -> None:
        if isinstance(event, TrainingStarted):
            started.append(event)

    options: dict[str, Any] = {"text_field": None, "max_steps": 1, "on_event": watch}
    template = {"text_template": "{act}: {prompt}"}
    train(tmp_path / "a", llama, prompts, **options, **template, max_train_samples=10)
    train(tmp_path / "b", llama, prompts, **options, **template, eval_fraction=0.25)
    train(
        tmp_path / "c", llama, prompts, **options, **template, eval_data=str(prompts)
    )  # all of them known
    train(tmp_path / "d", llama, prompts, **options, **template, eval_fraction=0)
    assert [(e.rows, e.held_out_rows) for e in started] == [(10, 14), (18, 6), (24, 0), (24, 0)]
    answers = json.loads((tmp_path / "a/compare.json").read_text())["answers"]
    assert answers[0]["prompt"].startswith("role 10:")


def test_overwrite(llama: Path, prompts: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(run, llama, prompts, max_steps=2, save_steps=1)
    with pytest.raises(OutputError, match="--overwrite"):
        train(run, llama, prompts)
    train(run, llama, prompts, max_steps=1, overwrite=True)
    assert not list(run.glob("checkpoint-*"))
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines if line["event"] != "Note"] == [
        "TrainingStarted", "StepDone", "TrainingEnded",
    ]  # fmt: skip


def test_mistakes_in_python_are_the_same(llama: Path, prompts: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean 'learning_rate'"):
        lorita.train(model=str(llama), data=str(prompts), lerning_rate=1)


def test_stop_leaves_a_checkpoint(llama: Path, prompts: Path, tmp_path: Path) -> None:
    def stop_after_two(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="after step"):
        train(tmp_path / "run", llama, prompts, on_event=stop_after_two)
    checkpoint = next((tmp_path / "run").glob("checkpoint-*"))
    assert PeftModel.from_pretrained(tiny.make_model("llama"), str(checkpoint))
    assert not (tmp_path / "run/lorita.json").exists()


def test_ctrl_c_ends_with_130(llama: Path, prompts: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--model", llama, "--data", prompts, "--text-field", "prompt", "--output-dir", run]
    process = start(
        ["-m", "lorita", "train", *arguments, "--max-steps", "100000"], environment(),
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for _ in range(600):
        if (run / "log.jsonl").exists() and len((run / "log.jsonl").read_text().splitlines()) > 3:
            break
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Checkpoint saved" in errors
    assert "Interrupted after step" in errors
    assert "Traceback" not in errors
    assert list(run.glob("checkpoint-*/adapter_model.safetensors"))
