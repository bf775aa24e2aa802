"""``report_to``: what trackers got is read back by their own libraries."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import lorita
from lorita.errors import Interrupted, RunFailed, SettingsError
from lorita.runs import trackers
from lorita.settings.build import build_settings
from lorita.storage.run_record import read_record
from lorita.training.events import Evaluated, Event, Note, StepDone
from tests.command import environment, refused
from tests.forks import start

STEPS = 4


def train(folder: Path, model: Path, rows: Path, **options: Any) -> list[Event]:
    seen: list[Event] = []
    given = {
        "text_field": "prompt", "max_steps": STEPS, "eval_steps": 2, "max_new_tokens": 4,
        "use_cpu": True, "on_event": seen.append, "output_dir": folder / "run",
    }  # fmt: skip
    lorita.train(model=str(model), data=str(rows), **(given | options))
    return seen


def wanted(seen: list[Event], run: Path) -> dict[str, float]:
    """The last values that a tracker must hold."""
    step = [event for event in seen if isinstance(event, StepDone)][-1]
    held_out = [event for event in seen if isinstance(event, Evaluated)][-1]
    record = read_record(run)
    assert record is not None and record.figures.held_out_loss_tuned is not None
    return {
        "train/loss": step.loss,
        "train/learning_rate": step.learning_rate,
        "train/grad_norm": step.grad_norm,
        "train/tokens_per_second": step.tokens / step.seconds,
        "eval/loss": held_out.loss,
        "proof/held_out_loss_tuned": record.figures.held_out_loss_tuned,
    }


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    read.Reload()
    return {
        tag: [(event.step, event.value) for event in read.Scalars(tag)]
        for tag in read.Tags()["scalars"]
    }


def test_tensorboard(llama: Path, prompts: Path, tmp_path: Path) -> None:
    seen = train(tmp_path, llama, prompts, report_to="tensorboard")
    found = scalars(tmp_path / "tensorboard/run")
    for name, value in wanted(seen, tmp_path / "run").items():
        assert found[name][-1][1] == pytest.approx(value, rel=1e-6), name
    assert [step for step, _ in found["train/loss"]] == [1, 2, 3, 4]
    assert found["train/memory_gb"][-1][1] > 0.05
    assert {"proof/forgot_change", "proof/divergence", "proof/copied"} <= found.keys()
    assert [file.name for file in (tmp_path / "run").iterdir() if "events" in file.name] == []
    hparams = next((tmp_path / "tensorboard/run").glob("*/hparams.yml")).read_text()
    assert "r: 8" in hparams and str(tmp_path) not in hparams


def test_a_run_that_replaces_another_has_its_own_curves(
    llama: Path, prompts: Path, tmp_path: Path
) -> None:
    few = {"report_to": ["tensorboard"], "max_steps": 1, "eval_steps": None, "proof": False}
    train(tmp_path, llama, prompts, **few)
    train(tmp_path, llama, prompts, **few, overwrite=True)
    assert {f.name for f in (tmp_path / "tensorboard").iterdir()} == {"run", "run-2"}


def test_the_runs_of_a_sweep(llama: Path, prompts: Path, tmp_path: Path) -> None:
    lorita.sweep(
        {"r": [1, 2]}, model=str(llama), data=str(prompts), text_field="prompt", max_steps=1,
        max_new_tokens=4, proof=False, use_cpu=True, output_dir=tmp_path / "sweep",
        report_to="tensorboard", on_event=lambda event: None,
    )  # fmt: skip
    runs = list((tmp_path / "sweep/tensorboard").iterdir())
    assert len(runs) == 2 and all("train/loss" in scalars(run) for run in runs)


@pytest.mark.skipif(find_spec("mlflow") is None, reason="needs mlflow")
def test_mlflow(
    llama: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    seen = train(tmp_path, llama, prompts, report_to="mlflow")
    [experiment] = [e for e in mlflow.search_experiments() if e.name == "lorita"]
    [run] = mlflow.MlflowClient().search_runs([experiment.experiment_id])
    for name, value in wanted(seen, tmp_path / "run").items():
        assert run.data.metrics[name] == pytest.approx(value), name
    assert run.data.metrics["train/memory_gb"] > 0.05
    assert run.data.params["r"] == "8" and run.info.status == "FINISHED"
    assert run.info.run_name == "run"


@pytest.mark.skipif(find_spec("trackio") is None, reason="needs trackio")
def test_trackio(
    llama: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"""
import lorita, json
from pathlib import Path
from tests.runs.test_trackers import train, wanted
here = Path({str(tmp_path)!r})
seen = train(here, Path({str(llama)!r}), Path({str(prompts)!r}), report_to="trackio")
(here / "wanted.json").write_text(json.dumps(wanted(seen, here / "run")))
"""
    place = str(tmp_path / "trackio")
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(TRACKIO_DIR=place), text=True,
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = {}
    with sqlite3.connect(next(Path(place).rglob("lorita*.db"))) as database:
        for (metrics,) in database.execute("SELECT metrics FROM metrics ORDER BY id"):
            found |= json.loads(metrics)
    for name, value in json.loads((tmp_path / "wanted.json").read_text()).items():
        assert found[name] == pytest.approx(value), name


@pytest.mark.parametrize(("typed", "part"), [
    ("tensorboard,foo", "tensorboard, wandb, mlflow or trackio"),
    ("comet_ml", "tensorboard, wandb, mlflow or trackio"),
    ("all", "tensorboard, wandb, mlflow or trackio"),
])  # fmt: skip
def test_other_trackers_are_refused(
    typed: str, part: str, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "train", "smollm2-135m", prompts, "--report-to", typed)
    assert "report_to" in said and part.replace(" or ", " ").split(", ")[0] in said


@pytest.mark.parametrize("typed", ["none", [], None, ["none"], ""])
def test_no_tracker(typed: Any) -> None:
    assert build_settings(model="m", data="d", report_to=typed).report_to == []


def test_a_package_that_is_missing_is_said_before_anything_is_read(
    llama: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError) as error:
        train(tmp_path, llama, prompts, report_to="wandb,trackio")
    assert str(error.value) == (
        "report_to: not installed: wandb, trackio\n"
        'Install with: pip install "lorita[wandb,trackio]"; or leave out --report-to.'
    )
    assert not (tmp_path / "run").exists()


def test_a_settings_file_alone_sends_nothing(
    llama: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "theirs.yaml"
    file.write_text(
        f"model: {llama}\ndata: {prompts}\ntext_field: prompt\nreport_to: [tensorboard]\n"
        f"output_dir: {tmp_path / 'run'}\n"
    )
    assert "--report-to tensorboard" in refused(capsys, "train", file)
    assert not (tmp_path / "run").exists()


class Failing:
    """A tracker that fails at the step it is told to: 0 is the start."""

    def __init__(self, at: int) -> None:
        self.left = at

    def start(self) -> None:
        self.log({})

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        json.dumps(values)

    def log(self, values: dict[str, Any], step: int = 0) -> None:
        print("noise")
        if self.left == 0:
            raise ConnectionError("no answer\nsecond line")
        self.left -= 1

    def finish(self) -> None:
        pass


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_tracker_that_fails(
    at: int, llama: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(trackers, "_make", lambda *_: Failing(at))
    if at == 0:
        with pytest.raises(RunFailed, match="cannot be started \\(no answer\\)"):
            train(tmp_path, llama, prompts, report_to="tensorboard")
        assert not (tmp_path / "run").exists()
        return
    seen = train(tmp_path, llama, prompts, report_to="tensorboard")
    warned = [e.text for e in seen if isinstance(e, Note) and "tensorboard" in e.text]
    assert warned == ["tensorboard gets nothing more: no answer. The run itself goes on."]
    assert read_record(tmp_path / "run") is not None
    assert "noise" not in capsys.readouterr().out


def test_a_run_that_is_stopped_closes_its_trackers(
    llama: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    tracker = Failing(1000)
    monkeypatch.setattr(tracker, "finish", lambda: closed.append(True))
    monkeypatch.setattr(trackers, "_make", lambda *_: tracker)

    def stop(event: Event) -> None:
        if isinstance(event, StepDone):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        train(tmp_path, llama, prompts, report_to="tensorboard", on_event=stop)
    assert closed == [True]


def test_several_processes_log_once(llama: Path, prompts: Path, tmp_path: Path) -> None:
    asked = [
        "-m", "lorita", "train", llama, prompts, "--text-field=prompt", "--max-steps=2",
        "--use-cpu", "--max-new-tokens=4", "--no-proof", f"--output-dir={tmp_path / 'run'}",
        "--report-to=tensorboard",
    ]  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    members = [
        start(asked, environment(OMP_NUM_THREADS="1", RANK=rank, LOCAL_RANK=rank, **group))
        for rank in ("0", "1")
    ]
    assert [member.wait(240) for member in members] == [0, 0]
    [run] = (tmp_path / "tensorboard").iterdir()
    assert len(list(run.glob("events.*"))) == 1
    assert [step for step, _ in scalars(run)["train/loss"]] == [1, 2]
