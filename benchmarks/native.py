"""The same training on the blocks of a quantised file and on their numbers in 16 bits.

    python benchmarks/native.py                      # the bundled model's Q4_1 file, three seeds
    python benchmarks/native.py path/to/model.gguf   # another file

Each is a whole ``lorita train`` on fifty role prompts in a process of its own; the loss is that on
the same held-out rows, the peak that of the whole command.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from lorita.workflows.demo import data_file

WAYS = {
    "native": ["--base-precision", "native"],
    "bfloat16": ["--dtype", "bfloat16"],
}


def train(model: str, way: str, seed: int, folder: Path) -> tuple[float, float]:
    """The held-out loss (nats per token), and the peak memory in GB."""
    out = folder / f"{way}-{seed}"
    words = [
        "train", model, str(data_file()), "--text-field", "prompt", "--max-train-samples", "50",
        "--max-eval-samples", "60", "--seed", str(seed), "--no-proof", "--no-probe",
        "--output-dir", str(out), *WAYS[way],
    ]  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([sys.executable, "-m", "lorita", *words], check=True, **quiet)
    figures = json.loads((out / "lorita.json").read_text())["figures"]
    return float(figures["held_out_loss_tuned"]), figures["peak_memory"] / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    losses: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(given.seeds):
            for way in WAYS:
                loss, peak = train(given.model, way, seed, Path(folder))
                losses[way].append(loss)
                print(f"seed {seed}  {way:9} loss {loss:.4f}  peak {peak:.2f} GB", flush=True)
    native, plain = (statistics.mean(found) for found in losses.values())
    print(f"native {native:.4f}, bfloat16 {plain:.4f}: {native / plain - 1:+.2%}")


if __name__ == "__main__":
    main()
