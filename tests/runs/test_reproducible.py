"""The same settings, the same bytes; what is only reported changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command import lorita as command
from tests.runs.test_run import train

SAME: dict[str, Any] = {
    "lora_dropout": 0.1,  # draws from the random state that measuring could disturb
    "bias": "all",
    "max_steps": 4,
    "max_train_samples": 16,
}
REPORTS: list[dict[str, Any]] = [
    {},
    {"logging_steps": 3},
    {"eval_steps": 1, "save_steps": 1, "save_total_limit": 1},
    {"proof": False},
    {"compare_prompt": ["I act", "Tea"], "max_new_tokens": 2, "repetition_penalty": 1.0},
    {"max_eval_samples": 3, "eval_steps": 3},
]


@pytest.fixture(scope="module")
def first(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    from tests import tiny

    folder = tmp_path_factory.mktemp("first")
    data = tiny.write_csv(folder / "prompts.csv", tiny.make_texts(24))
    train(folder / "run", llama, data, **SAME)
    return folder / "run", data


def adapter(run: Path) -> bytes:
    return (run / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("reports", REPORTS, ids=lambda reports: "-".join(reports) or "again")
def test_reports_change_nothing(
    llama: Path, first: tuple[Path, Path], tmp_path: Path, reports: dict[str, Any]
) -> None:
    run, data = first
    train(tmp_path / "run", llama, data, **SAME, **reports)
    assert adapter(tmp_path / "run") == adapter(run)


@pytest.mark.parametrize(
    "variables",
    [
        {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"},
        {"ACCELERATE_MIXED_PRECISION": "bf16"},
        {"ACCELERATE_USE_CPU": "true", "ACCELERATE_MIXED_PRECISION": "fp16"},
    ],
    ids=lambda variables: "-".join(variables),
)
def test_a_launchers_settings_change_nothing(
    llama: Path,
    first: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
) -> None:
    """``accelerate launch`` passes on how a trainer should accumulate and round; this is none."""
    run, data = first
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    train(tmp_path / "run", llama, data, **SAME, proof=False)
    assert adapter(tmp_path / "run") == adapter(run)


def test_what_matters_does(llama: Path, first: tuple[Path, Path], tmp_path: Path) -> None:
    run, data = first
    train(tmp_path / "run", llama, data, **SAME, seed=43)
    assert adapter(tmp_path / "run") != adapter(run)


def test_a_run_repeats_from_its_own_record(first: tuple[Path, Path], tmp_path: Path) -> None:
    run, _ = first
    done = command("train", run / "run.yaml", "--output-dir", tmp_path / "again")
    assert done.code == 0, done.err
    assert adapter(tmp_path / "again") == adapter(run)
    before, now = (json.loads((r / "lorita.json").read_text()) for r in (run, tmp_path / "again"))
    for key in ("base", "data", "checks", "seed", "stop_tokens", "prompt_format"):
        assert before[key] == now[key], key
    assert before["figures"]["final_training_loss"] == now["figures"]["final_training_loss"]


def test_the_record_says_what_is_needed_to_repeat_it(first: tuple[Path, Path]) -> None:
    run, _ = first
    record = json.loads((run / "lorita.json").read_text())
    assert len(record["data"]["fingerprint"]) == 64
    assert record["seed"] == 42
    assert record["versions"].keys() >= {"lorita", "torch", "transformers", "peft", "python"}
    assert record["machine"]["processor"] and record["machine"]["threads"] >= 1
    assert record["machine"]["cores"] >= 1
