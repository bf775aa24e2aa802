"""What follows from the rows: written down, shown, repeated; what is given always wins."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

import lorita
from lorita.errors import Interrupted, OutputError
from lorita.runs.chosen import chosen_lines, filled_in, step_count, step_size
from lorita.runs.prepare import PreparedData, prepare
from lorita.settings.build import build_settings
from lorita.settings.facts import differences, options_where
from lorita.settings.schema import RunSettings
from lorita.training.events import Event, Note, StepDone
from lorita.training.schedule import schedule_for
from lorita.workflows.plan import plan_run
from tests import tiny
from tests.runs.test_run import train
from tests.workflows.test_sweep import run_sweep

OPEN: dict[str, Any] = {
    "num_train_epochs": None, "per_device_train_batch_size": None, "proof": False,
    "max_new_tokens": 2, "compare_prompt": "I act",
}  # fmt: skip


def rows_of(
    folder: Path, model: Path, count: int, **options: Any
) -> tuple[RunSettings, PreparedData]:
    data = tiny.write_csv(folder / f"{count}.csv", [f"I act as number {i}." for i in range(count)])
    settings = build_settings(
        model=str(model), data=str(data), text_field="prompt", **{"eval_fraction": 0.0} | options
    )
    return settings, prepare(settings, writes=False).data


@pytest.mark.parametrize(
    "options",
    [
        {}, {"num_train_epochs": 3}, {"max_steps": 5}, {"per_device_train_batch_size": 5},
        {"gradient_accumulation_steps": 3}, {"adam_beta2": 0.9},
        {"packing": True, "max_length": 64},
        {"eval_fraction": 0.1}, {"early_stopping_patience": 2, "eval_fraction": 0.1},
        {"load_best_model_at_end": True, "eval_fraction": 0.1}, {"early_stopping_patience": 0},
    ],
)  # fmt: skip
@pytest.mark.parametrize("processes", [1, 2])
def test_what_is_given_wins_and_nothing_is_chosen_twice(
    options: dict[str, Any], processes: int, llama: Path, tmp_path: Path
) -> None:
    settings, data = rows_of(tmp_path, llama, 60, **options)
    filled = filled_in(settings, data, processes)
    for name in options:
        assert getattr(filled, name) == getattr(settings, name)
    assert set(differences(settings, filled, ())) <= set(options_where(chosen=True))
    assert filled.per_device_train_batch_size and filled.adam_beta2 is not None
    assert (filled.num_train_epochs is None) == (filled.max_steps is not None)
    assert filled_in(filled, data, processes) == filled
    assert not chosen_lines(filled, filled, data, processes)
    assert step_count(filled, data, processes) >= 1


def test_several_processes_share_the_same_step(llama: Path, tmp_path: Path) -> None:
    settings, data = rows_of(tmp_path, llama, 200)
    one, two = (filled_in(settings, data, processes) for processes in (1, 2))
    assert step_size(one, 1) == step_size(two, 2) == schedule_for(200, 9999).rows_per_step
    assert one.adam_beta2 == two.adam_beta2
    many = filled_in(settings, data, 64)
    assert many.per_device_train_batch_size == 1


def test_windows_hold_as_many_rows_as_a_step(llama: Path, tmp_path: Path) -> None:
    settings, data = rows_of(tmp_path, llama, 600, packing=True, max_length=64)
    assert data.windows is not None
    filled = filled_in(settings, data)
    windows = filled.per_device_train_batch_size or 0
    rows = windows * len(data.train) / len(data.windows)
    assert rows == pytest.approx(schedule_for(600, 9999).rows_per_step, rel=0.5)
    (line,) = chosen_lines(settings, filled, data)
    assert f"{windows} window" in line and "600 rows" in line


def test_a_run_says_writes_and_repeats_it(llama: Path, prompts: Path, tmp_path: Path) -> None:
    said: list[str] = []
    train(
        tmp_path / "run", llama, prompts, **OPEN,
        on_event=lambda event: said.append(event.text) if isinstance(event, Note) else None,
    )  # fmt: skip
    written = build_settings(tmp_path / "run/run.yaml")
    rows, epochs = written.per_device_train_batch_size, written.num_train_epochs
    line = next(text for text in said if "chosen for" in text)
    passes = f"{epochs:g} epoch" + "s" * (epochs != 1)
    assert line.startswith(f"{passes} of {rows} rows per step, AdamW beta2 0.9")
    planned = plan_run(
        build_settings(
            model=str(llama), data=str(prompts), text_field="prompt", proof=False, max_new_tokens=2,
            compare_prompt="I act", probe=False, use_cpu=True,
        ),
        data=True,
    )  # fmt: skip
    assert line in planned.notes
    more: list[Event] = []
    lorita.train(config=tmp_path / "run/run.yaml", output_dir=tmp_path / "b", on_event=more.append)
    assert not any("chosen for" in e.text for e in more if isinstance(e, Note))
    steps = [e.step for e in more if isinstance(e, StepDone)]
    assert planned.work is not None and steps[-1] == planned.work.steps
    a, b = ((tmp_path / run / "adapter_model.safetensors").read_bytes() for run in ("run", "b"))
    assert a == b
    card = (tmp_path / "run/README.md").read_text()
    assert f"per_device_train_batch_size | {rows}" in card or f"batch_size: {rows}" in card


def test_what_was_chosen_stays_when_a_run_goes_on(
    llama: Path, prompts: Path, tmp_path: Path
) -> None:
    """Given at its beginning or not: whoever continues it says nothing else."""

    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            signal.raise_signal(signal.SIGINT)

    for name, given in (("open", {}), ("given", {"num_train_epochs": 3, "adam_beta2": 0.9})):
        with pytest.raises(Interrupted):
            train(tmp_path / name, llama, prompts, **OPEN | given, on_event=stop)
        train(tmp_path / f"{name}-whole", llama, prompts, **OPEN | given)
        train(tmp_path / name, llama, prompts, **OPEN, resume=True)
        one, other = (
            (tmp_path / run / "adapter_model.safetensors").read_bytes()
            for run in (name, f"{name}-whole")
        )
        assert one == other
    with pytest.raises(Interrupted):
        train(tmp_path / "again", llama, prompts, **OPEN, on_event=stop)
    with pytest.raises(OutputError, match=r"num_train_epochs was .*, is now 7"):
        train(tmp_path / "again", llama, prompts, **OPEN | {"num_train_epochs": 7}, resume=True)


def test_a_sweep_reuses_only_what_would_be_chosen(
    llama: Path, prompts: Path, tmp_path: Path
) -> None:
    grid = {"r": [2, 4]}
    result = run_sweep(tmp_path / "sweep", llama, prompts, **OPEN, grid=grid)
    before = {run.name: (tmp_path / "sweep" / run.name / "run.yaml").read_bytes()
              for run in result.runs}  # fmt: skip
    again = run_sweep(tmp_path / "sweep", llama, prompts, **OPEN, grid=grid)
    assert again.runs == result.runs
    assert all((tmp_path / "sweep" / n / "run.yaml").read_bytes() == b for n, b in before.items())
    with pytest.raises(OutputError, match="made with num_train_epochs = "):
        more = OPEN | {"num_train_epochs": 7}
        run_sweep(tmp_path / "sweep", llama, prompts, **more, grid=grid)
