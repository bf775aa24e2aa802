"""What --base-precision int8 gains and costs: the same job in bf16 and in int8.

    python benchmarks/int8.py --models smollm2-135m,path/to/another.gguf --data prompts.csv

The job is J1 in `jobs.py`. The held-out loss of both is measured by the model's own forward in
bf16, so the comparison is about what was learned, not about how the loss is computed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

SIDE = Path(__file__).with_name("side.py")


def run(side: str, model: str, seed: int, extra: list[str]) -> dict[str, Any]:
    command = [sys.executable, str(SIDE), side, "J1", "--model", model, "--seed", str(seed)]
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
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--data", type=Path, help="CSV with act,prompt; default: lorita's own")
    given = parser.parse_args()
    extra = ["--epochs", str(given.epochs), *(["--data", str(given.data)] if given.data else [])]
    print("| model | seed | bf16 s | int8 s | bf16 held-out | int8 held-out | difference |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for model in given.models.split(","):
        ratios, differences = [], []
        for seed in range(1, given.repeats + 1):
            wide, narrow = (run(side, model, seed, extra) for side in ("lorita", "lorita-int8"))
            ratios.append(wide["seconds"] / narrow["seconds"])
            differences.append(narrow["held_out_loss"] / wide["held_out_loss"] - 1)
            print(
                f"| {Path(model).name} | {seed} | {wide['seconds']:.1f} | {narrow['seconds']:.1f} "
                f"| {wide['held_out_loss']:.4f} | {narrow['held_out_loss']:.4f} "
                f"| {differences[-1]:+.2%} |",
                flush=True,
            )
        print(
            f"{Path(model).name}: {statistics.median(ratios):.2f} times as fast, held-out loss "
            f"{statistics.mean(differences):+.2%} on average",
            flush=True,
        )


if __name__ == "__main__":
    main()
