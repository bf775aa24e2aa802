"""A time budget: as many steps as end in it, decided once, and then a run like any other."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lorita
from lorita.cli import run as command
from lorita.errors import Interrupted, OutputError, SettingsError
from lorita.runs import schedule
from lorita.runs.measuring_time import Writing
from lorita.runs.training_job import TrainingJob
from lorita.settings.build import build_settings
from lorita.training.checkpoint_state import STATE_FILE
from lorita.training.deadline import Deadline
from lorita.training.events import Event, Note, StepDone, TrainingShortened, TrainingStarted
from lorita.workflows.plan import plan_run
from tests.command import refused
from tests.runs.test_run import train

SHORT: dict[str, Any] = {
    "proof": False, "max_new_tokens": 2, "compare_prompt": "I act", "num_train_epochs": None,
    "per_device_train_batch_size": None, "max_eval_samples": 2, "lora_dropout": 0.1,
}  # fmt: skip


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A token takes a second, and writing none: figures that do not depend on the machine.

    The list grows with every measurement.
    """
    times: list[int] = []
    probe = TrainingJob.probe

    def second_per_token(job: TrainingJob) -> Any:
        from dataclasses import replace

        times.append(1)
        return replace(probe(job), seconds_per_token=1.0)

    monkeypatch.setattr(TrainingJob, "probe", second_per_token)
    monkeypatch.setattr(schedule, "time_writing", lambda *asked: Writing(0.0, 0.0))
    yield times


def adapter(run: Path) -> bytes:
    return (run / "adapter_model.safetensors").read_bytes()


def steps_of(result: lorita.RunResult) -> int:
    return len(result.losses)


def stop_after(step: int) -> Any:
    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == step:
            signal.raise_signal(signal.SIGINT)

    return stop


def test_most_steps() -> None:
    for whole in (1, 2, 7, 100):
        for limit in (0, 1, 6, 99, 100, 500):
            found = schedule.most_steps(lambda steps, limit=limit: steps <= limit, whole)
            assert found == min(limit, whole)


def test_a_part_of_the_steps_is_an_ordinary_run(
    llama: Path, prompts: Path, tmp_path: Path, measured: list[int]
) -> None:
    said: list[str] = []

    def keep(event: Event) -> None:
        said.append(event.text if isinstance(event, Note) else "")

    run = tmp_path / "run"
    steps = steps_of(train(run, llama, prompts, **SHORT, time_budget="8m", on_event=keep))
    assert 5 <= steps < 11
    line = next(text for text in said if "Time budget" in text)
    assert f"8 min 00 s: {steps} of 11 steps" in line
    written = build_settings(run / "run.yaml")
    assert (written.max_steps, written.time_budget) == (steps, None)
    assert json.loads((run / "lorita.json").read_text())["figures"]["steps"] == steps
    # The whole schedule ends then: it repeats without a clock, byte for byte.
    lorita.train(config=run / "run.yaml", output_dir=tmp_path / "b", on_event=lambda event: None)
    assert adapter(tmp_path / "b") == adapter(run)
    train(tmp_path / "c", llama, prompts, **SHORT, max_steps=steps)
    assert adapter(tmp_path / "c") == adapter(run)
    assert len(measured) == 1
    planned = plan_run(
        build_settings(
            model=str(llama), data=str(prompts), text_field="prompt", time_budget="8m",
            dtype="float32", use_cpu=True, output_dir=tmp_path / "d",
            **{name: value for name, value in SHORT.items() if value is not None},
        ),
        data=True,
    )  # fmt: skip
    assert planned.work is not None and planned.work.steps == steps
    assert any(note.startswith("Time budget 8 min") for note in planned.notes)


@pytest.mark.parametrize(
    ("options", "steps"),
    [({}, 11), ({"max_steps": 4}, 4), ({"num_train_epochs": 2}, 22), ({"max_steps": 30}, 30)],
)
def test_never_more_than_the_whole_training(
    llama: Path, prompts: Path, tmp_path: Path, measured: list[int], options: Any, steps: int
) -> None:
    said: list[str] = []
    result = train(
        tmp_path / "run", llama, prompts, **SHORT | {"time_budget": "9h"} | options,
        on_event=lambda event: said.append(event.text) if isinstance(event, Note) else None,
    )  # fmt: skip
    assert steps_of(result) == steps
    assert any(f"enough for all {steps} steps" in text for text in said)
    assert not any("num_train_epochs" in text and "does nothing" in text for text in said)


def test_the_smaller_of_budget_and_max_steps(
    llama: Path, prompts: Path, tmp_path: Path, measured: list[int]
) -> None:
    options = SHORT | {"time_budget": "11m"}
    few = train(tmp_path / "a", llama, prompts, **options, max_steps=6)
    many = train(tmp_path / "b", llama, prompts, **options, max_steps=60)
    assert steps_of(few) == 6 and 6 <= steps_of(many) < 11


@pytest.mark.parametrize("proof", [False, True])
def test_too_short(
    llama: Path, prompts: Path, tmp_path: Path, measured: list[int], proof: bool
) -> None:
    with pytest.raises(SettingsError, match="time_budget 10 s is too short") as caught:
        train(tmp_path / "run", llama, prompts, **SHORT | {"proof": proof}, time_budget=10)
    assert len(caught.value.problems) == 1
    assert "for 5 steps" in str(caught.value) and ("--no-proof" in str(caught.value)) == proof
    assert not (tmp_path / "run").exists()
    needed = str(caught.value).split("--time-budget ")[1].split("s")[0]
    if not proof:
        assert steps_of(train(tmp_path / "run", llama, prompts, **SHORT, time_budget=needed)) >= 5


def test_a_run_that_goes_on_does_not_measure_again(
    llama: Path, prompts: Path, tmp_path: Path, measured: list[int]
) -> None:
    options = SHORT | {"time_budget": "8m"}
    whole = train(tmp_path / "whole", llama, prompts, **options)
    for name, again in (("command", options), ("longer", {"time_budget": "9h"})):
        run = tmp_path / name
        with pytest.raises(Interrupted):
            train(run, llama, prompts, **options, on_event=stop_after(2))
        del measured[:]
        said: list[str] = []

        def keep(event: Event, said: list[str] = said) -> None:
            said.append(event.text if isinstance(event, Note) else "")

        if name == "command":
            train(run, llama, prompts, **again, resume=True, on_event=keep)
        else:
            lorita.train(config=run / "run.yaml", resume=True, **again, on_event=keep)
        assert adapter(run) == adapter(tmp_path / "whole")
        assert not measured
        assert any(f"keeps the {steps_of(whole)} steps it was begun with" in text for text in said)


def test_a_finished_run_is_not_begun_again(
    llama: Path, prompts: Path, tmp_path: Path, measured: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = tmp_path / "run"
    train(run, llama, prompts, **SHORT, time_budget="8m")
    given = ["--model", llama, "--data", prompts, "--text-field", "prompt", "--dtype", "float32",
             "--learning-rate", "1e-2", "--use-cpu", "--max-eval-samples", "2", "--lora-dropout",
             "0.1", "--output-dir", run, "--resume", "--time-budget", "8m"]  # fmt: skip
    assert command(["train", *map(str, given)]) == 0
    assert "this run is finished" in capsys.readouterr().out


def test_a_run_begun_without_a_budget_gets_none(
    llama: Path, prompts: Path, tmp_path: Path, measured: list[int]
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(run, llama, prompts, **SHORT, on_event=stop_after(2))
    with pytest.raises(SettingsError, match="was begun without time_budget") as caught:
        train(run, llama, prompts, **SHORT, resume=True, time_budget="8m")
    assert "without --time-budget" in str(caught.value)
    # Another number of steps is another run, as ever.
    with pytest.raises(OutputError, match="max_steps was None, is now 3"):
        train(run, llama, prompts, **SHORT, resume=True, max_steps=3)


def test_a_slower_machine_ends_near_the_budget(
    llama: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decision is part of the checkpoint: a resumed run ends like one never stopped."""

    def at_once(self: Deadline, step: int, pace: Any, trainee: Any, accelerator: Any) -> Any:
        from dataclasses import replace

        if step != 3:
            return pace
        from lorita.training.deadline import shorten

        yield TrainingShortened(step, 7, pace.max_steps)
        shorten(trainee, step, pace.max_steps, 7)
        return replace(pace, max_steps=7)

    monkeypatch.setattr(Deadline, "look", at_once)
    options = SHORT | {"time_budget": "9h"}
    whole = train(tmp_path / "whole", llama, prompts, **options)
    assert steps_of(whole) == 7
    run = tmp_path / "run"
    with pytest.raises(Interrupted, match="after step 5 of 7"):
        train(run, llama, prompts, **options, on_event=stop_after(5))
    state = json.loads((run / "checkpoint-5" / STATE_FILE).read_text())
    assert state["shortened"] == [[3, 11, 7]]
    started: list[Event] = []
    lorita.train(config=run / "run.yaml", resume=True, on_event=started.append)
    first = next(e for e in started if isinstance(e, TrainingStarted))
    assert (first.first_step, first.max_steps) == (5, 7)
    assert adapter(run) == adapter(tmp_path / "whole")
    rates = [e.learning_rate for e in started if isinstance(e, StepDone)]
    assert math.isclose(rates[-1], 1e-2 * (11 - 3 - 8 * 3 / 4) / 11)


def test_beside_a_sweep(
    llama: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(
        capsys, "sweep", llama, prompts, "--r", "2,4", "--time-budget", "5m", "--output-dir",
        tmp_path / "sweep",
    )  # fmt: skip
    assert said.count("time_budget is for a single run") == 1
    assert not (tmp_path / "sweep").exists()
    code = command(
        ["sweep", str(llama), str(prompts), "--find-lr", "--time-budget", "5m", "--text-field",
         "prompt", "--output-dir", str(tmp_path / "sweep")]
    )  # fmt: skip
    assert code == 0
    assert "--time-budget does nothing with --find-lr" in capsys.readouterr().err
