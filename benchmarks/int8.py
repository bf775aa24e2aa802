"""What --base-precision int8 gains and costs: the same job in the model's dtype and in int8.

    python benchmarks/int8.py --models smollm2-135m,path/to/another.gguf --data prompts.csv
    python benchmarks/int8.py --jobs J1,J3,J4 --dtype float32    # on a processor without bfloat16

The jobs are in `jobs.py`. The held-out loss of both is measured by the model's own forward in its
dtype, so the comparison is about what was learned, not about how the loss is computed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

SIDE = Path(__file__).with_name("side.py")


def run(side: str, job: str, model: str, seed: int, extra: list[str]) -> dict[str, Any]:
    command = [sys.executable, str(SIDE), side, job, "--model", model, "--seed", str(seed)]
    done = subprocess.run([*command, *extra], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{side} on {model} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", default="smollm2-135m")
    parser.add_argument("--jobs", default="J1")
    parser.add_argument("--dtype", help="instead of the job's")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--data", type=Path, help="CSV with act,prompt; default: lorita's own")
    given = parser.parse_args()
    extra = ["--epochs", str(given.epochs), *(["--data", str(given.data)] if given.data else [])]
    extra += ["--dtype", given.dtype] if given.dtype else []
    print("| model | job | seed | s | int8 s | held-out | int8 held-out | difference |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for model, job in itertools.product(given.models.split(","), given.jobs.split(",")):
        compare(model, job, given.repeats, extra)


def compare(model: str, job: str, repeats: int, extra: list[str]) -> None:
    """Run both sides with each seed and print a line for each, then the means."""
    ratios, differences = [], []
    for seed in range(1, repeats + 1):
        wide, narrow = (run(side, job, model, seed, extra) for side in ("lorita", "lorita-int8"))
        ratios.append(wide["seconds"] / narrow["seconds"])
        differences.append(narrow["held_out_loss"] / wide["held_out_loss"] - 1)
        print(
            f"| {Path(model).name} | {job} | {seed} | {wide['seconds']:.1f} "
            f"| {narrow['seconds']:.1f} | {wide['held_out_loss']:.4f} "
            f"| {narrow['held_out_loss']:.4f} | {differences[-1]:+.2%} |",
            flush=True,
        )
    print(
        f"{Path(model).name}, {job}: {statistics.median(ratios):.2f} times as fast, held-out loss "
        f"{statistics.mean(differences):+.2%} on average",
        flush=True,
    )


if __name__ == "__main__":
    main()
