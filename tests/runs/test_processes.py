"""Two processes with half a batch each train what one process trains with the whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import lorita
from lorita.errors import Interrupted, OutputError
from lorita.system import processes as processes_module
from lorita.training.events import Event, StepDone
from tests.command import environment, refused
from tests.runs.test_run import train

LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def test_two_processes_are_one(llama: Path, prompts: Path, tmp_path: Path) -> None:
    train(tmp_path / "one", llama, prompts, max_steps=4, per_device_train_batch_size=8)
    options = {
        "model": llama, "data": prompts, "text-field": "prompt", "dtype": "float32",
        "learning-rate": "1e-2", "num-train-epochs": "2", "per-device-train-batch-size": "4",
        "max-new-tokens": "8", "max-steps": "4", "output-dir": tmp_path / "two",
    }  # fmt: skip
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    done = subprocess.run(
        [*LAUNCHER, "-m", "lorita", "train", *flags, "--use-cpu"],
        capture_output=True, text=True, env=environment(OMP_NUM_THREADS="1"), timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Before and after") == 1
    one, two = (load_file(tmp_path / run / "adapter_model.safetensors") for run in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=2e-3, atol=1e-5)
    log = (tmp_path / "two/log.jsonl").read_text().splitlines()
    assert sum('"event": "Note"' not in line for line in log) == 7
    assert len(set(log)) == len(log)


FLAGS = "--text-field prompt --dtype float32 --max-new-tokens 2 --no-proof --use-cpu"


def flags(model: Path, data: Path, run: Path) -> list[str]:
    return ["train", "--model", str(model), "--data", str(data), "--output-dir", str(run),
            *FLAGS.split()]  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RANK": "1"}, "RANK=1 is set, but not WORLD_SIZE"),
        ({"RANK": "one"}, "RANK=one: not a number"),
        ({"RANK": "-1"}, "RANK=-1: not a number"),
        ({"LOCAL_RANK": "0"}, "LOCAL_RANK=0 is set, but not WORLD_SIZE"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 is set, but not RANK"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 is not below WORLD_SIZE=2"),
        ({"OMPI_COMM_WORLD_RANK": "1"}, "is set, but not WORLD_SIZE"),
    ],
)
def test_a_stray_variable_of_a_launcher_is_one_message(
    llama: Path,
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    said: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    message = refused(capsys, *flags(llama, prompts, tmp_path / "run"))
    assert said in message
    assert message.count("\n") <= 2


@pytest.mark.parametrize(
    ("variables", "processes", "said"),
    [
        ({"RANK": "0"}, 1, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, 1, None),
        ({"RANK": "0", "WORLD_SIZE": "2"}, 2, None),
        ({"RANK": "0", "WORLD_SIZE": "2"}, 1, "has started 2 processes"),
        ({"OMPI_COMM_WORLD_SIZE": "3"}, 1, "has started 3 processes"),
        ({"PMI_SIZE": "2"}, 1, "has started 2 processes"),
        ({"SLURM_STEP_NUM_TASKS": "4"}, 1, "has started 4 processes"),
        # As `accelerate launch --cpu --num_processes 2` leaves them.
        (
            {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"},
            1,
            "it has started only one",
        ),
        ({"ACCELERATE_MIXED_PRECISION": "no"}, 1, None),
    ],
)
def test_a_launcher_that_meant_more_processes_is_noticed(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], processes: int, said: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    warning = processes_module.launch_warning(processes)
    assert (warning is None) if said is None else said in (warning or "")


def test_stopped_once_and_resumed_by_another_number(
    llama: Path, prompts: Path, tmp_path: Path
) -> None:
    """Both processes stop after the same step, one says so, and one process may go on if asked."""
    run = tmp_path / "run"
    more = ["--per-device-train-batch-size", "4", "--max-steps", "5000"]
    running = subprocess.Popen(
        [*LAUNCHER, "-m", "lorita", *flags(llama, prompts, run)[:-1], *more],  # no --use-cpu
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(OMP_NUM_THREADS="1"), start_new_session=True,
    )  # fmt: skip
    log = run / "log.jsonl"
    deadline = time.monotonic() + 200
    while not (log.exists() and log.read_text().count('"StepDone"') >= 2):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGINT)  # as Ctrl-C does: to the launcher and to both
    _, err = running.communicate(timeout=120)
    assert err.count("Interrupted after step") == 1, err
    (checkpoint,) = run.glob("checkpoint-*")
    again = {"config": run / "run.yaml", "output_dir": run, "on_event": lambda event: None}
    with pytest.raises(OutputError, match="rows per step was 8, is now 4"):
        lorita.train(**again, resume=True)
    again |= {"per_device_train_batch_size": 8, "resume": True}
    with pytest.raises(OutputError, match="processes was 2, is now 1") as caught:
        lorita.train(**again)
    assert "--resume-inexact" in str(caught.value)
    steps = []

    def stop(event: Event) -> None:
        if isinstance(event, StepDone):
            steps.append(event.step)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        lorita.train(**again | {"on_event": stop}, resume_inexact=True)
    assert steps == [int(checkpoint.name.partition("-")[2]) + 1]
