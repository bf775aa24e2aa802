"""A sweep is its runs: the same bytes, each once, and the best is the best."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

import lorita
from lorita.errors import (
    AdapterError,
    DataError,
    Interrupted,
    LoritaError,
    OutputError,
    SettingsError,
)
from lorita.models.adapter_files import WEIGHTS_FILE
from lorita.runs.loaded_base import load_base
from lorita.training.events import Event, Note, StepDone
from lorita.workflows.find_learning_rate import RateStep, find_rate
from lorita.workflows.sweep import sweep
from lorita.workflows.sweep_grid import make_grid, split_values
from lorita.workflows.sweep_result import SweepResult, Tried
from tests.command import lorita as command
from tests.runs.test_run import train

GRID = {"learning_rate": [1e-2, 5e-2], "r": [2, 4]}


def run_sweep(folder: Path, model: Path, data: Path, **options: Any) -> SweepResult:
    given: dict[str, Any] = {
        "dtype": "float32",
        "text_field": "prompt",
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "max_new_tokens": 4,
        "bias": "lora_only",
        "use_cpu": True,
        "on_event": lambda event: None,
        "grid": GRID,
    }
    return sweep(model=str(model), data=str(data), output_dir=folder, **given | options)


def test_each_run_is_what_train_makes(llama: Path, prompts: Path, tmp_path: Path) -> None:
    result = run_sweep(tmp_path / "sweep", llama, prompts)
    assert len(result.runs) == 4
    last = result.runs[-1]
    assert last.values == {"learning_rate": 5e-2, "r": 4}
    # The fourth run on the same base gives the bytes of a run of its own, biases included.
    alone = {"num_train_epochs": 2, "max_new_tokens": 4, "bias": "lora_only"}
    train(tmp_path / "alone", llama, prompts, lora_alpha=8, **alone, **last.values)
    bytes_of = [
        (run / WEIGHTS_FILE).read_bytes() for run in (result.path / last.name, tmp_path / "alone")
    ]
    assert bytes_of[0] == bytes_of[1]
    records = [
        json.loads((run / "lorita.json").read_text())
        for run in (result.path / last.name, tmp_path / "alone")
    ]
    assert (
        records[0]["figures"]["held_out_loss_base"] == records[1]["figures"]["held_out_loss_base"]
    )
    saved = json.loads((result.path / "sweep.json").read_text())
    assert saved["best"] == result.best.name
    assert result.best.held_out == min(run.held_out for run in result.runs)
    assert result.best.held_out < saved["held_out_base"]


def test_goes_on_where_it_stopped(llama: Path, prompts: Path, tmp_path: Path) -> None:
    whole = run_sweep(tmp_path / "whole", llama, prompts)
    steps = [0]

    def stop(event: Event) -> None:
        if isinstance(event, StepDone):
            steps[0] += 1
            if steps[0] == 15:  # in the second run
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="The same command continues"):
        run_sweep(tmp_path / "sweep", llama, prompts, on_event=stop)
    events: list[Event] = []
    result = run_sweep(tmp_path / "sweep", llama, prompts, on_event=events.append)
    first = next(e.step for e in events if isinstance(e, StepDone))
    assert first == 4  # the first run is not repeated, the second continues
    assert [run.held_out for run in result.runs] == [run.held_out for run in whole.runs]
    notes = [e.text for e in events if isinstance(e, Note)]
    assert any("Run 1 of 4" in text and "already exists" in text for text in notes)
    events.clear()
    run_sweep(tmp_path / "sweep", llama, prompts, on_event=events.append)
    assert not any(isinstance(event, StepDone) for event in events)


def test_a_run_that_fails_does_not_end_the_sweep(
    llama: Path, prompts: Path, tmp_path: Path
) -> None:
    grid = {"learning_rate": [1e3, 1e-2]}
    options: dict[str, Any] = {"grid": grid, "lora_alpha": 1e30, "max_grad_norm": 0, "bias": "none"}
    result = run_sweep(tmp_path / "sweep", llama, prompts, **options)
    assert result.runs[0].failed and result.runs[0].held_out is None
    steps: list[Event] = []
    again = run_sweep(tmp_path / "sweep", llama, prompts, on_event=steps.append, **options)
    assert again.runs[0].failed == result.runs[0].failed
    assert not any(isinstance(event, StepDone) for event in steps)


@pytest.mark.parametrize("raised", [AdapterError("does not fit"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["attach", "speedup"])
def test_what_goes_wrong_while_an_adapter_is_attached_is_said(
    llama: Path,
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    where: str,
) -> None:
    """The error itself reaches the caller, and the base is as it was loaded."""
    bases: list[Any] = []

    def load(*args: Any) -> Any:
        bases.append(load_base(*args))
        return bases[-1]

    def fail(*args: Any, **options: Any) -> Any:
        raise raised

    module = {"attach": "lorita.models.adapter.attach", "speedup": "lorita.runs.run_model.speedup"}
    monkeypatch.setattr(module[where], fail)
    monkeypatch.setattr("lorita.workflows.sweep.load_base", load)
    stopped = isinstance(raised, KeyboardInterrupt)
    with pytest.raises(Interrupted if stopped else type(raised)) as caught:
        run_sweep(tmp_path / "sweep", llama, prompts, gradient_checkpointing=True)
    assert stopped or caught.value is raised
    (base,) = bases
    assert not [name for name, _ in base.model.named_modules() if "lora" in name]
    assert not any(getattr(m, "gradient_checkpointing", False) for m in base.model.modules())
    assert not any(p.requires_grad for p in base.model.parameters())
    assert not base.model.get_input_embeddings()._forward_hooks


def test_other_settings_are_not_mixed_in(llama: Path, prompts: Path, tmp_path: Path) -> None:
    run_sweep(tmp_path / "sweep", llama, prompts, grid={"r": [2]}, max_steps=1)
    with pytest.raises(OutputError, match="made with max_steps = 1, now it is 2"):
        run_sweep(tmp_path / "sweep", llama, prompts, grid={"r": [2]}, max_steps=2)
    again = {"grid": {"r": [2]}, "max_steps": 2, "overwrite": True}
    assert run_sweep(tmp_path / "sweep", llama, prompts, **again).best


MISTAKES: list[tuple[dict[str, Any], type[LoritaError], str]] = [
    ({"grid": {"lerning_rate": [1]}}, SettingsError, "did you mean 'learning_rate'"),
    ({"grid": {"r": []}}, SettingsError, "r: no values"),
    ({"grid": {"model": ["a", "b"]}}, SettingsError, "model cannot be swept"),
    ({"grid": {"r": [0], "learning_rate": [-1]}}, SettingsError, "r = 0"),
    ({"grid": {"r": [2]}, "eval_fraction": 0}, DataError, "nothing to compare"),
    ({"grid": {"seed": [1, 2]}, "max_steps": 1}, DataError, "different held-out rows"),
    ({"grid": {"target_modules": ["q_proj", "nothing"]}}, LoritaError, "nothing"),
]


@pytest.mark.parametrize(("options", "kind", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes(
    llama: Path,
    prompts: Path,
    tmp_path: Path,
    options: dict[str, Any],
    kind: type[LoritaError],
    message: str,
) -> None:
    with pytest.raises(kind, match=message):
        run_sweep(tmp_path / "sweep", llama, prompts, **options)


def test_values_on_the_command_line() -> None:
    flags = {
        "r": "4, 16",
        "learning_rate": "1e-3",
        "target_modules": "q_proj,v_proj;all-linear",
        "text_template": "{a},{b}",
        "exclude_modules": "a,b",
    }
    grid, others = split_values(flags)
    assert grid == {"r": ["4", "16"], "target_modules": ["q_proj,v_proj", "all-linear"]}
    assert others.keys() == {"learning_rate", "text_template", "exclude_modules"}
    points = make_grid(grid, None, model="m", data="d", r=8)
    assert [point.settings.r for point in points] == [4, 4, 16, 16]
    assert points[0].name == "r-4_target_modules-q_proj+v_proj"


def test_where_the_best_lies_on_the_edge() -> None:
    runs = tuple(Tried(f"r-{r}", {"r": r}, loss, 1.0, 1.0) for r, loss in ((2, 3.0), (4, 2.0)))
    assert "largest tried" in SweepResult(Path(), 3.0, runs).edges()[0]
    runs = (*runs, Tried("r-8", {"r": 8}, 2.5, 1.0, 1.0))
    assert SweepResult(Path(), 3.0, runs).edges() == []


def test_the_command(llama: Path, prompts: Path, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        f"model: {llama}\ndata: {prompts}\ntext_field: prompt\nmax_steps: 3\nmax_new_tokens: 4\n"
    )
    done = command("sweep", "run.yaml", "--lora_rank", "2,4", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "best" in done.out and "Held-out loss of the base" in done.out
    assert (tmp_path / "runs/prompts-sweep/r-4/adapter_model.safetensors").is_file()
    nothing = command("sweep", "run.yaml", "--r", "4", cwd=tmp_path)
    assert nothing.code == 2 and "nothing to sweep over" in nothing.err
    found = command("sweep", "run.yaml", "--find-lr", "--learning-rate", "1e-4,1e-3", cwd=tmp_path)
    assert found.code == 2 and "makes no runs" in found.err
    found = command("sweep", "run.yaml", "--find-lr", cwd=tmp_path)
    assert found.code == 0, found.err
    assert "Proposed: --learning-rate" in found.out
    assert (tmp_path / "runs/prompts-sweep/find_lr.json").is_file()


def test_the_proposed_rate_lies_below_the_best() -> None:
    steps = [RateStep(10.0**-k, gain) for k, gain in ((5, 0.0), (3, 0.4), (2, 0.6), (1, -0.3))]
    proposed = find_rate(steps)
    assert proposed is not None and 1e-3 < proposed < 1e-2
    assert find_rate([RateStep(1e-3, -0.1)]) is None
    assert find_rate([]) is None


def test_lorita_sweep_is_public() -> None:
    assert lorita.sweep is sweep
