"""lorita against PEFT + HF Trainer, job by job, side by side.

    python benchmarks/vs_peft.py                       # all jobs, three times; takes hours
    python benchmarks/vs_peft.py --jobs J1,J2 --short  # fewer epochs and rows
    python benchmarks/vs_peft.py --resume              # continues where it stopped
    python benchmarks/vs_peft.py --avx2 --jobs J1,J3   # as on a processor with AVX2 and no more

Side (a) is PEFT with the Trainer's defaults in float32, side (b) the same tuned as far as its
documentation allows on a CPU: bf16 weights, rows sorted by length. lorita-int8 is lorita with
--base-precision int8. Every run has its own process, and the sides alternate, so that a machine
that slows down slows all of them. Each repeat has its own seed. Ratios are of medians; peak is the
largest resident memory of the process up to the end of training.

With --avx2, ONEDNN_MAX_CPU_ISA and ATEN_CPU_CAPABILITY limit all sides to AVX2, and all run in
float32, the faster format there. MKL, which torch uses for float32 products where oneDNN is not
asked for, has a limit of its own, which is set, too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from jobs import JOBS, Job

HERE = Path(__file__).parent
SHORT = {"J1": (2, 50), "J2": (1, 16), "J3": (1, 16), "J4": (1, 24), "J5": (2, 50)}
"""(epochs, rows) with ``--short``."""
AVX2 = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}


def run_side(
    side: str, job: Job, seed: int, extra: list[str], limits: dict[str, str]
) -> dict[str, Any] | None:
    """The figures of one side; None if it died, with the reason on stderr (usually memory).

    ``limits`` are environment variables for its process.
    """
    command = [sys.executable, str(HERE / "side.py"), side, job.name, "--seed", str(seed), *extra]
    environment = {**os.environ, **limits}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        why = "killed (out of memory?)" if done.returncode < 0 else done.stderr[-3000:]
        print(f"{side} {job.name}, seed {seed}: {why}", file=sys.stderr, flush=True)
        return None
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def median(results: list[dict[str, Any]], key: str) -> float:
    return statistics.median(result[key] for result in results)


def mean_loss(results: list[dict[str, Any]]) -> str:
    losses = [r["held_out_loss"] for r in results if r["held_out_loss"] is not None]
    return f"{statistics.mean(losses):.3f}" if losses else "-"


def report(job: Job, results: dict[str, list[dict[str, Any]]]) -> str:
    lines = [f"\n{job.name}: {job.what}"]
    lines.append("| side | seconds | against lorita | peak MiB | held-out loss | utilisation |")
    lines.append("| --- | --- | --- | --- | --- | --- |")
    if not results.get("lorita"):
        return f"\n{job.name}: lorita did not finish"
    own = median(results["lorita"], "seconds")
    for side, runs in results.items():
        if not runs:
            lines.append(f"| {side} | did not finish | | | | |")
            continue
        seconds = median(runs, "seconds")
        lines.append(
            f"| {side} | {seconds:.1f} | {seconds / own:.2f}× | {median(runs, 'peak_mib'):,.0f} | "
            f"{mean_loss(runs)} | {median(runs, 'utilisation'):.0%} |"
        )
    rss_side = "peft-b" if "peft-b" in results else "peft-a"
    if results.get(rss_side):
        share = median(results["lorita"], "peak_mib") / median(results[rss_side], "peak_mib")
        lines.append(f"Peak memory: {share:.0%} of {rss_side}'s. Floors: {job.floors}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--sides", help="which of lorita,lorita-int8,peft-a,peft-b to run")
    parser.add_argument("--avx2", action="store_true", help="no instructions beyond AVX2")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="fewer epochs and rows")
    parser.add_argument("--epochs", type=int, help="instead of the job's")
    parser.add_argument("--rows", type=int, help="train on the job's first N rows")
    parser.add_argument("--resume", action="store_true", help="keep the results already in --json")
    parser.add_argument("--data", type=Path, help="CSV with act,prompt; default: lorita's own")
    parser.add_argument("--no-eval", action="store_true")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results.json"))
    given = parser.parse_args()
    everything: dict[str, dict[str, list[dict[str, Any]]]] = {}
    if given.resume and given.json.exists():
        everything = json.loads(given.json.read_text())
    limits = AVX2 if given.avx2 else {}
    for name in given.jobs.split(","):
        job = JOBS[name]
        epochs, rows = SHORT[name] if given.short else (None, None)
        options = {"data": given.data, "epochs": given.epochs or epochs, "rows": given.rows or rows}
        extra = [
            word for key, value in options.items() if value for word in (f"--{key}", str(value))
        ]
        extra += ["--no-eval"] if given.no_eval else []
        extra += ["--dtype", "float32"] if given.avx2 else []
        sides = ("lorita", "lorita-int8", "peft-a") if given.avx2 else job.sides
        sides = tuple(given.sides.split(",")) if given.sides else sides
        results = everything.setdefault(name, {})
        for repeat in range(given.repeats):
            for side in sides:
                known = results.setdefault(side, [])
                if len(known) > repeat:
                    continue
                if found := run_side(side, job, repeat + 1, extra, limits):
                    known.append(found)
                    given.json.write_text(json.dumps(everything, indent=2) + "\n")
        print(report(job, results), flush=True)


if __name__ == "__main__":
    main()
