"""What a person waits for: whole commands from start to exit, and seconds until a held-out loss.

    python benchmarks/clock.py                 # whole jobs, phase by phase, and time to quality
    python benchmarks/clock.py --repeats 1     # quicker
    python benchmarks/clock.py --cold          # the caches of lorita and of the disk are empty
    python benchmarks/clock.py --gguf          # a GGUF file of 0.5 billion parameters, instead

The job is the article's: fifty role prompts, three prompts answered before and after, on the
bundled SmolLM2-135M. Five sides, each in processes of its own, alternating; medians.

- PEFT with the HF Trainer, with the article's settings (r 4 on q/k/v, 3e-2, 8 rows) and with those
  that lorita trains with if nothing is asked for; float32, as the article loads it.
- lorita with the article's settings, and with its own, without and with the proof.

What comes from better settings and what from the engine is thus never mixed up. All sides read the
same folder of safetensors. Time to quality counts the training alone, without the evaluations; the
whole command to the same loss is what comes before and after the training, added to it.

With ``--gguf``: one epoch of the same rows on random weights in the shape of Qwen2.5-0.5B Q4_K_M
(``make_gguf.py``), with lorita's defaults but without the proof; empty caches, then filled ones.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SIDES = (
    "peft, article's settings",
    "peft, lorita's settings",
    "lorita, article's settings",
    "lorita, its defaults, no proof",
    "lorita, its defaults",
)
PHASES = ("imports", "loaded", "first step", "trained", "answered")
EVERY = 2
"""Steps between two evaluations, which take far longer than a step."""
TARGET = 2.985
"""The held-out loss that PEFT reaches with the article's recipe after two epochs."""


def save_base(folder: Path) -> None:
    """The bundled model as an ordinary folder, which all sides can read."""
    code = (
        "import sys, torch; from lorita.models.base import find_base, load_tokenizer; "
        "from lorita.models.base_weights import load_model; base = find_base('smollm2-135m'); "
        "model = load_model(base, torch.bfloat16); model.save_pretrained(sys.argv[1]); "
        "load_tokenizer(base).save_pretrained(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)


def measure(side: str, model: Path, folder: Path, *, curve: int, cold: bool) -> dict[str, Any]:
    """One process from start to exit: its phases and the loss after every ``curve`` steps."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    if cold:
        environment |= {"HF_HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "cache")}
        empty_disk_cache()
    started = time.time()
    out = folder / str(SIDES.index(side))  # lorita writes into no folder of another program
    command = [sys.executable, str(HERE / "clock_side.py"), side, str(model), str(out)]
    command += ["--started", repr(started), "--curve", str(curve)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{side}: {done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {**result, "whole": time.time() - started}


def empty_disk_cache() -> None:
    """Forget what the system keeps of files, where it allows that."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("1")
    except OSError:
        print("The disk's cache cannot be emptied here: only lorita's own are", file=sys.stderr)


def whole_table(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The phases as seconds since the start, and the whole."""
    lines = [f"| side | {' | '.join(PHASES)} | whole |", f"|{' --- |' * (len(PHASES) + 2)}"]
    for side, runs in results.items():
        seconds = [statistics.median(r["phases"][phase] for r in runs) for phase in PHASES]
        whole = statistics.median(run["whole"] for run in runs)
        lines.append(f"| {side} | {' | '.join(f'{s:.1f}' for s in seconds)} | {whole:.1f} |")
    return lines


def seconds_to(curve: list[list[float]], target: float) -> float | None:
    """Seconds of training after which the loss is at most ``target``; None if it never is."""
    return next((seconds for seconds, loss in curve if loss <= target), None)


def quality_table(
    curves: dict[str, list[dict[str, Any]]], whole: dict[str, list[dict[str, Any]]], target: float
) -> list[str]:
    """Seconds of training to the target; the rest of the command; the loss at the end."""
    lines = [f"| side | training to {target} | whole command to it | loss at the end |"]
    lines.append(f"|{' --- |' * 4}")
    for side, runs in curves.items():
        times = [seconds_to(run["curve"], target) for run in runs]
        losses = " ".join(f"{run['loss']:.3f}" for run in runs)
        reached = [seconds for seconds in times if seconds is not None]
        if len(reached) < len(times):
            lines.append(f"| {side} | not reached | | {losses} |")
            continue
        around = statistics.median(
            r["whole"] - (r["phases"]["trained"] - r["phases"]["loaded"]) for r in whole[side]
        )
        middle = statistics.median(reached)
        lines.append(f"| {side} | {middle:.1f} | {middle + around:.1f} | {losses} |")
    return lines


def gguf_table(repeats: int) -> list[str]:
    """Whole commands on the GGUF file, the first time and again: seconds, and the peak."""
    from forecast import ROLES, run
    from make_gguf import make, place

    options = ["--model", str(make(place())), *ROLES, "--max-train-samples", "50", "--no-proof"]
    options += ["--num-train-epochs", "1"]
    found: dict[str, list[tuple[float, int]]] = {"first time": [], "again": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            for which, measured in found.items():
                out = Path(folder) / which.replace(" ", "-")
                done = run("train", options, Path(folder) / "cache", "--output-dir", str(out))
                measured.append(done[1:])
                print(f"GGUF, {which}: {done[1]:.1f} s", file=sys.stderr, flush=True)
    lines = ["| 0.5 billion parameters, GGUF | whole | peak |", "| --- | --- | --- |"]
    for which, measured in found.items():
        seconds, peak = (statistics.median(column) for column in zip(*measured, strict=True))
        lines.append(f"| {which} | {seconds:.1f} s | {peak / 1e6:,.0f} MB |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--target", type=float, default=TARGET)
    parser.add_argument("--sides", default=",".join(map(str, range(len(SIDES)))))
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--no-quality", action="store_true")
    parser.add_argument("--gguf", action="store_true")
    given = parser.parse_args()
    if given.gguf:
        print("\n".join(gguf_table(given.repeats)))
        return
    sides = [SIDES[int(number)] for number in given.sides.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        place, model = Path(folder), Path(folder) / "base"
        save_base(model)
        results: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        curves: dict[str, list[dict[str, Any]]] = {
            side: [] for side in sides if side != SIDES[-1] and not given.no_quality
        }
        for _ in range(given.repeats):
            for side in sides:
                results[side].append(measure(side, model, place, curve=0, cold=given.cold))
                print(side, f"{results[side][-1]['whole']:.1f} s", file=sys.stderr, flush=True)
        for side in curves:
            curves[side].append(measure(side, model, place, curve=EVERY, cold=False))
    print("Seconds since the start, at the end of each phase:\n")
    print("\n".join(whole_table(results)))
    if curves:
        print("\nSeconds to quality:\n")
        print("\n".join(quality_table(curves, results, given.target)))


if __name__ == "__main__":
    main()
