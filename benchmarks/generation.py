"""Generation with transformers and with llama.cpp: tokens per second, and how far they agree.

    python benchmarks/generation.py runs/prompts    # the base's own GGUF file, or float32
    python benchmarks/generation.py runs/prompts --dtype float32

The same prompts, alone and together, greedy, no penalty, 64 tokens each; the engines alternate,
medians of three. Loading and making GGUF files are not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import lorita
from lorita.engine.numerics import choose_numerics
from lorita.export.llamacpp.model import open_llamacpp
from lorita.inference.resolve import resolve
from lorita.workflows.demo import data_file

TOKENS = 64


def prompts(count: int) -> list[str]:
    """The starts of the last role prompts that come with lorita."""
    import csv

    with data_file().open(encoding="utf-8", newline="") as file:
        texts = [row["prompt"] for row in csv.DictReader(file)]
    return [" ".join(text.split()[:12]) for text in texts[-count:]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--dtype", default="auto")
    given = parser.parse_args()
    choose_numerics().apply()
    engines = {
        "transformers": lorita.load(given.run, dtype=given.dtype),
        "llama.cpp": open_llamacpp(resolve(given.run), given.dtype),
    }
    options = {"max_new_tokens": TOKENS, "repetition_penalty": 1.0}
    count = engines["transformers"].tokenizer
    for asked in (prompts(8)[:1], prompts(8)):
        times: dict[str, list[float]] = {name: [] for name in engines}
        answers: dict[str, list[str]] = {}
        for _ in range(4):  # the first warms up
            for name, model in engines.items():
                start = time.perf_counter()
                answers[name] = model.generate_batch(asked, **options)
                times[name].append(time.perf_counter() - start)
        ids = {n: [count(text)["input_ids"] for text in said] for n, said in answers.items()}
        for name in engines:
            rate = sum(map(len, ids[name])) / statistics.median(times[name][1:])
            print(f"{len(asked)} prompts, {name}: {rate:.0f} tokens per second")
        pairs = list(zip(ids["transformers"], ids["llama.cpp"], strict=True))
        same = [next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), len(a)) for a, b in pairs]  # noqa: B905
        alike = sum(a == b for a, b in pairs)
        print(f"identical: {alike} of {len(pairs)}; equal tokens from the start: {same}")


if __name__ == "__main__":
    main()
