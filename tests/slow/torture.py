"""Kill training runs at random instants, start the same command again, and compare the bytes.

python -m tests.slow.torture --runs 200

Every run is the real command line in a process of its own that dies by SIGKILL, some of them while
a checkpoint is written. The processes are forked from one that has imported everything, which
saves the seconds that importing takes. Ends with exit code 1 unless every run came to its end
without a hand and with the bytes of the run that was left alone.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

import lorita.cli
from lorita.training.checkpoint import list_checkpoints
from lorita.training.checkpoint_state import read_state
from tests import tiny

OPTIONS = (
    "--text-field prompt --dtype float32 --max-steps 12 --save-steps 1 --learning-rate 1e-2 "
    "--lora-dropout 0.1 --bias all --per-device-train-batch-size 4 --eval-steps 2 "
    "--load-best-model-at-end --max-new-tokens 4 --use-cpu --resume"
)


@dataclass
class Tally:
    """What happened to the runs."""

    kills: int = 0
    in_checkpoint: int = 0
    before_checkpoint: int = 0
    wrong: int = 0


def start(work: Path, run: Path) -> int:
    """Start the command in a fork and return its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        log = os.open(work / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        given = ["--model", work / "model", "--data", work / "data.csv", "--output-dir", run]
        code = lorita.cli.run(["train", *map(str, given), *OPTIONS.split()])
        if not (work / "modules.txt").exists():
            (work / "modules.txt").write_text("\n".join(sys.modules))
    finally:
        os._exit(code)


def finish(work: Path, pid: int) -> None:
    """Wait for a run that must end well."""
    _, status = os.waitpid(pid, 0)
    if status:
        sys.exit(f"a run ended with status {status}:\n" + (work / "log.txt").read_text()[-3000:])


def import_all(work: Path) -> None:
    """Import what the first run imported, so that no fork has to."""
    for name in (work / "modules.txt").read_text().split("\n"):
        try:
            importlib.import_module(name)
        except Exception:  # some modules are made by their parents
            continue


def kill(pid: int, run: Path, seconds: float, dice: random.Random, tally: Tally) -> bool:
    """Kill a run at a random instant, every third within the writing of a checkpoint.

    False: it had come to its end before.
    """
    until = time.perf_counter() + dice.uniform(0, seconds)
    in_writing = tally.kills % 3 == 0
    while time.perf_counter() < until or (in_writing and not list(run.glob(".checkpoint-*"))):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return bool(status)
        time.sleep(0.0005)
    time.sleep(dice.uniform(0, 0.004) if in_writing else 0)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status):
        return bool(status)
    tally.kills += 1
    tally.in_checkpoint += bool(list(run.glob(".checkpoint-*")))
    checkpoints = list_checkpoints(run)
    tally.before_checkpoint += not checkpoints
    for checkpoint in checkpoints:  # whatever can be seen is whole
        read_state(checkpoint)
    return True


def torture(runs: int, seed: int) -> Tally:
    """The runs, one after another."""
    dice, tally = random.Random(seed), Tally()
    work = Path(tempfile.mkdtemp(prefix="lorita-torture-"))
    tiny.save_model(work / "model", "llama")
    tiny.write_csv(work / "data.csv", tiny.make_texts(24))
    finish(work, start(work, work / "first"))
    import_all(work)
    began = time.perf_counter()
    finish(work, start(work, work / "whole"))
    seconds = time.perf_counter() - began
    expected = (work / "whole/adapter_model.safetensors").read_bytes()
    print(f"seed {seed}; a run that is left alone takes {seconds:.1f} s", flush=True)
    for number in range(1, runs + 1):
        run = work / f"run{number}"
        kills = dice.randint(1, 4)
        while kills and kill(start(work, run), run, seconds, dice, tally):
            kills -= 1
        finish(work, start(work, run))
        same = (run / "adapter_model.safetensors").read_bytes() == expected
        tally.wrong += not same
        parts = list(run.rglob(".*.part"))
        if not same or parts:
            sys.exit(f"{run}: {'left over: ' + str(parts) if same else 'other bytes'}")
        shutil.rmtree(run)
        if number % 10 == 0:
            print(f"{number} runs, {tally}", flush=True)
    shutil.rmtree(work)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    tally = torture(given.runs, given.seed)
    print(
        f"{given.runs} of {given.runs} runs ended with the same bytes after {tally.kills} kills, "
        f"{tally.in_checkpoint} of them while a checkpoint was written and "
        f"{tally.before_checkpoint} before there was one"
    )


if __name__ == "__main__":
    main()
