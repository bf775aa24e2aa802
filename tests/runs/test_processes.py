"""Two processes with half a batch each train what one process trains with the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.command import environment
from tests.runs.test_run import train


def test_two_processes_are_one(llama: Path, prompts: Path, tmp_path: Path) -> None:
    train(tmp_path / "one", llama, prompts, max_steps=4, per_device_train_batch_size=8)
    options = {
        "model": llama, "data": prompts, "text-field": "prompt", "dtype": "float32",
        "learning-rate": "1e-2", "num-train-epochs": "2", "per-device-train-batch-size": "4",
        "max-new-tokens": "8", "max-steps": "4", "output-dir": tmp_path / "two",
    }  # fmt: skip
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, "-m", "lorita", "train", *flags, "--use-cpu"],
        capture_output=True, text=True, env=environment(OMP_NUM_THREADS="1"), timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Before and after") == 1
    one, two = (load_file(tmp_path / run / "adapter_model.safetensors") for run in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=2e-3, atol=1e-5)
    log = (tmp_path / "two/log.jsonl").read_text().splitlines()
    assert sum('"event": "Note"' not in line for line in log) == 6
    assert len(set(log)) == len(log)
