"""How time and memory of a step grow with rows, length, rank and model size.

    python benchmarks/scaling.py            # measures and plots; takes ten minutes
    python benchmarks/scaling.py --plot     # plots the existing figures

Each point runs in its own process: a model with random weights in the given shape, one step to warm
up, the median of three steps, peak resident memory. Plots need matplotlib
(`pip install ".[bench]"`).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SHAPES = {
    "135M": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
             "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152},
    "360M": {"hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32,
             "num_attention_heads": 15, "num_key_value_heads": 5, "vocab_size": 49152},
    "560M": {"hidden_size": 1152, "intermediate_size": 3072, "num_hidden_layers": 36,
             "num_attention_heads": 18, "num_key_value_heads": 6, "vocab_size": 49152},
    "1.1B": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
             "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000},
}  # fmt: skip
MILLIONS = {"135M": 135, "360M": 360, "560M": 560, "1.1B": 1100}
BASE: dict[str, Any] = {"shape": "135M", "rows": 4, "length": 128, "rank": 8}
SERIES: dict[str, list[Any]] = {
    "rows": [1, 2, 4, 8, 16, 32],
    "length": [128, 256, 512, 1024, 2048, 4096, 8192],
    "rank": [4, 16, 64, 256],
    "shape": list(SHAPES),
}
LABELS = {"rows": "rows of 128 tokens", "length": "tokens of one row", "rank": "r",
          "shape": "parameters"}  # fmt: skip
OUT = Path(__file__).parent.parent / "docs" / "img"


def measure(shape: str, rows: int, length: int, rank: int) -> dict[str, float]:
    """Seconds per step and peak MiB, in this process."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from lorita.engine.numerics import choose_numerics
    from lorita.engine.packed_model import packed_loss
    from lorita.engine.speedup import speedup
    from lorita.models.adapter import attach, lora_config

    numerics = choose_numerics()
    numerics.apply()
    config = LlamaConfig(
        **SHAPES[shape], max_position_embeddings=max(2048, length), tie_word_embeddings=True
    )
    with torch.device("meta"):
        model = LlamaForCausalLM._from_config(config, dtype=numerics.dtype)
    model = model.to_empty(device="cpu")
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(std=0.02)
        else:
            parameter.data.fill_(1.0)
    model.model.rotary_emb = type(model.model.rotary_emb)(config)  # its buffers were empty, too
    model.tie_weights()
    model.requires_grad_(False)
    peft_model = attach(
        model, lora_config(model, {"r": rank, "lora_alpha": rank, "target_modules": "all-linear"}),
        seed=0,
    )  # fmt: skip
    speedup(peft_model.train())
    ids = torch.randint(config.vocab_size, (rows * length,))
    times = []
    for _ in range(4):
        start = time.perf_counter()
        packed_loss(peft_model, ids, ids, [length] * rows).backward()
        peft_model.zero_grad()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": statistics.median(times[1:]), "peak_mib": peak, "tokens": rows * length}


def run_all() -> dict[str, list[dict[str, Any]]]:
    results: dict[str, list[dict[str, Any]]] = {}
    for name, values in SERIES.items():
        results[name] = []
        for value in values:
            point = {**BASE, **({"rows": 1} if name == "length" else {}), name: value}
            code = [sys.executable, __file__, "--point", json.dumps(point)]
            done = subprocess.run(code, capture_output=True, text=True, check=True)
            figures = json.loads(done.stdout.strip().splitlines()[-1])
            results[name].append({name: value, **figures})
            print(
                name,
                value,
                f"{figures['seconds']:.2f} s, {figures['peak_mib']:,.0f} MiB",
                flush=True,
            )
    return results


def plot(results: dict[str, list[dict[str, Any]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 4, figsize=(14, 6), constrained_layout=True)
    for column, (name, points) in enumerate(results.items()):
        x = [MILLIONS.get(point[name], point[name]) for point in points]
        for row, (key, label) in enumerate(
            (("seconds", "seconds a step"), ("peak_mib", "peak MiB"))
        ):
            axis = axes[row][column]
            axis.plot(x, [point[key] for point in points], "o-", color="#2b6cb0")
            axis.set_xlabel(LABELS[name])
            axis.set_ylabel(label if column == 0 else "")
            axis.set_xlim(left=0)
            axis.set_ylim(bottom=0)
            if name == "shape":
                axis.set_xticks(x, [point[name] for point in points])
            axis.grid(alpha=0.3)
    OUT.mkdir(parents=True, exist_ok=True)
    for ending in ("png", "svg"):
        figure.savefig(OUT / f"scaling.{ending}", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--plot", action="store_true")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_name("scaling.json"))
    given = parser.parse_args()
    if given.point:
        print(json.dumps(measure(**json.loads(given.point))))
        return
    if not given.plot:
        given.json.write_text(json.dumps(run_all(), indent=2) + "\n")
    plot(json.loads(given.json.read_text()))


if __name__ == "__main__":
    main()
