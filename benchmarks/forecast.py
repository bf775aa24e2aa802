"""The forecast of ``lorita plan`` against the time and memory of ``lorita train``, on four jobs.

python benchmarks/forecast.py            # prints the table in docs/plan.md

Each side runs in its own process, one after the other. Time is training time, memory the peak of
the process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from lorita.training.events import Event
from lorita.workflows.demo import data_file

MODEL = {"model": "smollm2-135m", "text_field": "prompt", "use_cpu": True, "seed": 1}
QKV, QV = "q_proj,k_proj,v_proj", "q_proj,v_proj"
JOBS: dict[str, dict[str, Any]] = {
    "50 prompts, r 4 on q/k/v, 3 epochs": {
        "max_train_samples": 50, "r": 4, "lora_alpha": 1, "target_modules": QKV,
        "max_eval_samples": 4,
    },
    "120 prompts, r 16 on all linears, held-out loss each epoch": {
        "max_train_samples": 120, "r": 16, "target_modules": "all-linear", "num_train_epochs": 2,
        "per_device_train_batch_size": 16, "load_best_model_at_end": True, "max_eval_samples": 20,
    },
    "50 prompts, float32": {
        "max_train_samples": 50, "dtype": "float32", "target_modules": QV, "max_eval_samples": 4,
    },
    "24 prompts, plain PEFT step (--no-speedup)": {
        "max_train_samples": 24, "speedup": False, "num_train_epochs": 3, "target_modules": QV,
        "max_eval_samples": 4,
    },
}  # fmt: skip


def side(which: str, job: str, folder: str) -> dict[str, float]:
    """One side of one job in this process."""
    import lorita
    from lorita.settings.build import build_settings
    from lorita.system.memory import peak_memory
    from lorita.training.events import TrainingEnded
    from lorita.workflows.plan import plan_run

    options = {**MODEL, **JOBS[job], "data": str(data_file()), "output_dir": folder}
    if which == "plan":
        forecast = plan_run(build_settings(**options), data=True).forecast
        assert forecast is not None
        assert forecast.seconds is not None
        return {"seconds": forecast.seconds, "bytes": forecast.peak_bytes}
    fact: dict[str, float] = {}

    def watch(event: Event) -> None:
        if isinstance(event, TrainingEnded):
            fact.update(seconds=event.seconds, bytes=peak_memory())

    lorita.train(**options, max_new_tokens=5, proof=False, on_event=watch)
    return fact


def run(which: str, job: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--side", which, "--job", job]
        done = subprocess.run(
            [*command, "--folder", f"{folder}/run"], capture_output=True, text=True, check=False
        )
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", choices=["plan", "train"])
    parser.add_argument("--job", choices=JOBS)
    parser.add_argument("--folder")
    given = parser.parse_args()
    if given.side:
        print(json.dumps(side(given.side, given.job, given.folder)))
        return
    print("| job | training, forecast | actual | off by | memory, forecast | actual | off by |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    worst = 0.0
    for job in JOBS:
        plan, fact = run("plan", job), run("train", job)
        off = {key: plan[key] / fact[key] - 1 for key in plan}
        worst = max(worst, *(abs(value) for value in off.values()))
        print(
            f"| {job} | {plan['seconds']:.1f} s | {fact['seconds']:.1f} s | {off['seconds']:+.0%} "
            f"| {plan['bytes'] / 1e6:,.0f} MB | {fact['bytes'] / 1e6:,.0f} MB "
            f"| {off['bytes']:+.0%} |",
            flush=True,
        )
    print(f"Largest difference: {worst:.0%} ({os.cpu_count()} cores)")
    sys.exit(worst > 0.25)


if __name__ == "__main__":
    main()
