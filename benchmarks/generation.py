"""Generation by lorita's engine, transformers and llama.cpp: tokens per second, and agreement.

    python benchmarks/generation.py runs/prompts    # the base's own GGUF file, or float32
    python benchmarks/generation.py runs/prompts --dtype bfloat16 --engines lorita transformers

The same prompts, alone and eight together, greedy, no penalty, 64 tokens each; engines alternate,
medians of three. Loading, making GGUF files and the engine's check of the model are not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any
from unittest import mock

import lorita
from lorita.engine.numerics import choose_numerics
from lorita.export.llamacpp.model import open_llamacpp
from lorita.inference import generation
from lorita.inference.resolve import resolve
from lorita.workflows.demo import data_file

TOKENS = 64
ENGINES = ("lorita", "transformers", "llama.cpp")


def prompts(count: int) -> list[str]:
    """The starts of the last role prompts that come with lorita."""
    import csv

    with data_file().open(encoding="utf-8", newline="") as file:
        texts = [row["prompt"] for row in csv.DictReader(file)]
    return [" ".join(text.split()[:12]) for text in texts[-count:]]


class ThroughTransformers:
    """The same model, without lorita's engine."""

    def __init__(self, tuned: Any) -> None:
        self._tuned = tuned

    def generate_batch(self, asked: list[str], **options: Any) -> list[str]:
        """As ``TunedModel.generate_batch``."""
        with mock.patch.object(generation, "write_all", lambda *_: None):
            answers: list[str] = self._tuned.generate_batch(asked, **options)
        return answers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    given = parser.parse_args()
    choose_numerics().apply()
    tuned = lorita.load(given.run, dtype=given.dtype)
    engines = {
        "lorita": tuned,
        "transformers": ThroughTransformers(tuned),
        "llama.cpp": "llama.cpp" in given.engines
        and open_llamacpp(resolve(given.run), given.dtype),
    }
    engines = {name: engines[name] for name in given.engines}
    options = {"max_new_tokens": TOKENS, "repetition_penalty": 1.0}
    count = tuned.tokenizer
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
        first, *others = engines
        for other in others:
            agreement(first, other, list(zip(ids[first], ids[other], strict=True)))


def agreement(one: str, other: str, pairs: list[tuple[list[int], list[int]]]) -> None:
    """Print how far the answers of two engines are the same."""
    same = [next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), len(a)) for a, b in pairs]  # noqa: B905
    alike = sum(a == b for a, b in pairs)
    print(f"{one}, {other}: {alike} of {len(pairs)} identical; equal tokens at the start: {same}")


if __name__ == "__main__":
    main()
