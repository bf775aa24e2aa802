"""How fast rows become tokens, and how much memory a large data set takes.

    python benchmarks/data.py rate      # lorita against the tokenizer's own encode_batch
    python benchmarks/data.py memory    # peak of `lorita train --max-steps 2`: few rows, many rows

The texts are words of the bundled prompts in random order. ``rate`` alternates the two sides in one
process and takes medians; lorita's side includes reading the rows, finding the trained tokens and
writing the result to an empty cache. ``memory`` is the peak resident set of the process.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROMPTS = Path(__file__).parents[1] / "src/lorita/resources/role_prompts.csv"
MODEL = "smollm2-135m"


def texts(tokens: int, seed: int = 1) -> Iterator[str]:
    """Texts of about 250 tokens each, about ``tokens`` in total."""
    with PROMPTS.open(encoding="utf-8", newline="") as file:
        words = " ".join(row["prompt"] for row in csv.DictReader(file)).split()
    generator = random.Random(seed)
    for _ in range(tokens // 250):
        yield " ".join(generator.choices(words, k=216))


def rate(tokens: int, repeats: int) -> None:
    import datasets

    from lorita.data.rows import Text
    from lorita.data.tokens.tokenize import Treatment, tokenize_rows
    from lorita.models.base import find_base, load_tokenizer

    tokenizer = load_tokenizer(find_base(MODEL))
    rows = list(texts(tokens))
    seconds: dict[str, list[float]] = {"encode_batch": [], "lorita": []}
    count = 0
    for _ in range(repeats):
        started = time.perf_counter()
        encoded = tokenizer.backend_tokenizer.encode_batch(rows)
        seconds["encode_batch"].append(time.perf_counter() - started)
        count = sum(len(one.ids) for one in encoded)
        del encoded
        with tempfile.TemporaryDirectory() as folder:
            datasets.config.HF_DATASETS_CACHE = folder
            started = time.perf_counter()
            made = tokenize_rows(
                [Text(row) for row in rows],
                range(len(rows)),
                tokenizer,
                Treatment(2048),
                origin="texts",
            )
            seconds["lorita"].append(time.perf_counter() - started)
            assert sum(len(e.input_ids) - 1 for e in made.examples) == count
    middle = {side: statistics.median(times) for side, times in seconds.items()}
    for side, value in middle.items():
        print(f"{side}: {count:,} tokens in {value:.2f} s, {count / value:,.0f} per second")
    print(f"lorita at {middle['encode_batch'] / middle['lorita']:.0%} of encode_batch")


def memory(tokens: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        peaks = []
        for name, amount in (("few", 10_000), ("many", tokens)):
            file = Path(folder) / f"{name}.txt"
            with file.open("w", encoding="utf-8") as out:
                out.writelines(f"{text}\n" for text in texts(amount))
            started = time.perf_counter()
            peaks.append(_peak(file, Path(folder)))
            seconds = time.perf_counter() - started
            size = file.stat().st_size / 1e6
            print(
                f"{name}: {amount:,} tokens, a file of {size:.0f} MB: "
                f"{peaks[-1] / 1e9:.2f} GB, {seconds:.0f} s"
            )
        print(f"The data took {(peaks[1] - peaks[0]) / 1e9:.2f} GB more")


def _peak(file: Path, folder: Path) -> int:
    options = ["--max-steps", "2", "--use-cpu", "--max-length", "512", "--max-new-tokens", "5"]
    run = folder / f"run-{file.stem}"
    command = [sys.executable, "-m", "lorita", "train", "--model", MODEL, "--data", str(file)]
    cache = {**os.environ, "HF_DATASETS_CACHE": str(folder / "cache")}
    # 100 rows are held out by default; measuring the base on ten of them is enough here.
    options += ["--max-eval-samples", "10", "--output-dir", str(run)]
    with subprocess.Popen([*command, *options], env=cache, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["rate", "memory"])
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    if given.what == "rate":
        rate(given.tokens or 1_000_000, given.repeats)
    else:
        memory(given.tokens or 10_000_000)


if __name__ == "__main__":
    main()
