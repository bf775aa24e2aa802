"""Does llama.cpp answer as lorita does, with the very file an adapter was trained on?

    python benchmarks/agreement.py                         # the bundled model as a Q8_0 file
    python benchmarks/agreement.py path/to/model.gguf      # another file

Trains an adapter on the blocks of the file (``--base-precision native``), writes it as a GGUF
adapter, and lets both continue 20 role prompts that were held out: greedy, no penalty, 16 tokens.
Answers that differ are printed; greedy answers part where two tokens are nearly equally likely.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

import lorita
from lorita.export.llamacpp.files import write_base
from lorita.inference.resolve import resolve
from lorita.models.base import find_base
from lorita.workflows.answering import ENGINES, open_answers
from lorita.workflows.demo import data_file

ROWS, PROMPTS, TOKENS = 50, 20, 16


def held_out_prompts() -> list[str]:
    """The beginnings of prompts after the first ``ROWS``, which are trained on."""
    with data_file().open(encoding="utf-8", newline="") as file:
        texts = [row["prompt"] for row in csv.DictReader(file)]
    return [" ".join(text.split()[:12]) for text in texts[ROWS : ROWS + PROMPTS]]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "base-q8_0.gguf"
        if not base.exists():
            write_base(find_base("smollm2-135m"), base, "q8_0")
        run = lorita.train(
            model=str(base), data=str(data_file()), text_field="prompt", base_precision="native",
            max_train_samples=ROWS, eval_fraction=0, proof=False, dtype="float32",
            output_dir=Path(folder) / "run",
        )  # fmt: skip
        options = {"max_new_tokens": TOKENS, "repetition_penalty": 1.0}
        answers = {
            engine: open_answers(resolve(run.path), dtype="auto", engine=engine).generate_batch(
                held_out_prompts(), **options
            )
            for engine in ENGINES
        }
    same = 0
    for prompt, ours, theirs in zip(held_out_prompts(), *answers.values(), strict=True):
        same += ours == theirs
        if ours != theirs:
            print(f"{prompt}\n  lorita:    {ours!r}\n  llama.cpp: {theirs!r}")
    print(f"{same} of {PROMPTS} answers have the same first {TOKENS} tokens")


if __name__ == "__main__":
    main()
