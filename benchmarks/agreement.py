"""Does llama.cpp answer as lorita does, with the very file an adapter was trained on?

    python benchmarks/agreement.py                         # the bundled model as a Q8_0 file
    python benchmarks/agreement.py path/to/model.gguf      # another file

Trains an adapter on the blocks of the file (``--base-precision native``), writes it as a GGUF
adapter, and lets both continue 20 role prompts that were held out: greedy, no penalty, 16 tokens.
llama.cpp rounds activations to 8 bits wherever it multiplies quantised weights, so it also answers
with the same numbers as a file in float32, where it does not. Answers that differ are printed.
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
from lorita.workflows.answering import open_answers
from lorita.workflows.demo import data_file

ROWS, PROMPTS, TOKENS = 50, 20, 16
WAYS = {
    "lorita": ("transformers", "float32"),
    "llama.cpp, the file": ("llama.cpp", "auto"),
    "llama.cpp, float32": ("llama.cpp", "float32"),
}


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
        asked, answers = held_out_prompts(), {}
        for name, (engine, dtype) in WAYS.items():
            model = open_answers(resolve(run.path), dtype=dtype, engine=engine)
            answers[name] = model.generate_batch(
                asked, max_new_tokens=TOKENS, repetition_penalty=1.0
            )
    ours = answers.pop("lorita")
    for name, theirs in answers.items():
        parted = [(p, a, b) for p, a, b in zip(asked, ours, theirs, strict=True) if a != b]
        for prompt, mine, other in parted:
            print(f"{prompt}\n  lorita: {mine!r}\n  {name}: {other!r}")
        print(f"{name}: {PROMPTS - len(parted)} of {PROMPTS} have the same {TOKENS} tokens")


if __name__ == "__main__":
    main()
