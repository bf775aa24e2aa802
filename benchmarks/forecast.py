"""The forecast of ``lorita plan`` against the time and memory of ``lorita train``, on six jobs.

    python benchmarks/forecast.py            # prints the table in docs/plan.md
    python benchmarks/forecast.py --jobs 2,6

Both are whole commands in processes of their own, from Enter to the prompt: imports, reading,
loading, training, saving, the proof. Memory is the peak of the process. Each job is planned once
before, so that kernels and the tables of a GGUF file's tokenizer are there for both; the caches
are the benchmark's own, and empty at its start. It ends with 1 if a forecast is off by more than
a quarter.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

DATA = Path(__file__).parents[1] / "examples" / "awesome-chatgpt-prompts.csv"
ROLES = ["--data", str(DATA), "--text-field", "prompt"]
ARTICLE = ["--r", "4", "--lora-alpha", "1", "--target-modules", "q_proj,k_proj,v_proj"]
QV = ["--target-modules", "q_proj,v_proj"]
BUNDLED = "smollm2-135m"
JOBS: dict[str, list[str]] = {
    "50 prompts, defaults": ["--model", BUNDLED, *ROLES, "--max-train-samples", "50"],
    "50 prompts, the article's r and targets, 3 epochs of 8 rows, `--no-proof`": [
        "--model", BUNDLED, *ROLES, "--max-train-samples", "50", *ARTICLE, "--no-proof",
        "--num-train-epochs", "3", "--per-device-train-batch-size", "8",
    ],
    "44 chats, defaults": [
        "--model", BUNDLED, "--data", str(Path(__file__).parent / "data/repairs.jsonl"),
        "--max-train-samples", "44",
    ],
    "120 prompts, r 16, 2 epochs of 16 rows, held-out loss at each": [
        "--model", BUNDLED, *ROLES, "--max-train-samples", "120", "--r", "16",
        "--num-train-epochs", "2", "--per-device-train-batch-size", "16",
        "--load-best-model-at-end",
    ],
    "24 prompts, plain PEFT step (`--no-speedup`), float32": [
        "--model", BUNDLED, *ROLES, "--max-train-samples", "24", *QV, "--no-speedup",
        "--dtype", "float32",
    ],
    "50 prompts, a GGUF file of 0.5 billion parameters": [
        "--model", "{gguf}", *ROLES, "--max-train-samples", "50",
    ],
}  # fmt: skip


def run(command: str, options: list[str], home: Path, *more: str) -> tuple[str, float, int]:
    """One command in a process of its own: what it printed, seconds, and its peak in bytes."""
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1",
        "XDG_CACHE_HOME": str(home), "HF_HOME": str(home / "huggingface"),
    }  # fmt: skip
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "lorita", command, *options, *more],
            stdout=out, stderr=err, env=environment,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            err.seek(0)
            sys.exit(f"lorita {command}: {err.read()[-3000:]}")
        out.seek(0)
        return out.read(), seconds, usage.ru_maxrss * 1024


def compare(options: list[str], home: Path, out: Path) -> tuple[float, float, int, int]:
    """(forecast, actual) of the seconds and of the bytes of one job."""
    run("plan", options, home)
    forecast = json.loads(run("plan", options, home, "--json")[0])["forecast"]
    _, seconds, peak = run("train", options, home, "--output-dir", str(out))
    expected = forecast["before"] + forecast["training"] + forecast["after"]
    return expected, seconds, forecast["peak_bytes"], peak


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--jobs", default=",".join(str(n + 1) for n in range(len(JOBS))))
    given = parser.parse_args()
    chosen = [list(JOBS.items())[int(number) - 1] for number in given.jobs.split(",")]
    if any("{gguf}" in options for _, options in chosen):
        from make_gguf import make, place

        gguf = make(place())
    print("| job | time, forecast | actual | off by | memory, forecast | actual | off by |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number, (job, options) in enumerate(chosen):
            options = [str(gguf) if option == "{gguf}" else option for option in options]
            out = Path(folder) / f"run{number}"
            expected, seconds, bytes_, peak = compare(options, Path(folder) / "cache", out)
            off = [expected / seconds - 1, bytes_ / peak - 1]
            worst = max(worst, *map(abs, off))
            print(
                f"| {job} | {expected:.0f} s | {seconds:.0f} s | {off[0]:+.0%} "
                f"| {bytes_ / 1e6:,.0f} MB | {peak / 1e6:,.0f} MB | {off[1]:+.0%} |",
                flush=True,
            )
    print(f"Largest difference: {worst:.0%} ({os.cpu_count()} cores)")
    sys.exit(worst > 0.25)


if __name__ == "__main__":
    main()
