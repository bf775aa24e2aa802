"""Does llama.cpp answer as lorita does, with the very file an adapter was trained on?

    python benchmarks/agreement.py                         # the bundled model as a Q8_0 file
    python benchmarks/agreement.py path/to/model.gguf      # another file
    python benchmarks/agreement.py --roles                 # the beginnings of role prompts instead

Trains an adapter on the blocks of the file (``--base-precision native``), writes it as a GGUF
adapter, and asks both 20 questions about household repairs that were held out, or lets both
continue role prompts: greedy, no penalty, 16 tokens.
llama.cpp rounds activations to 8 bits wherever it multiplies quantised weights, so it also answers
with the same numbers as a file in float32, where it does not. Answers that differ are printed.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from pathlib import Path
from typing import Any

import lorita
from lorita.export.llamacpp.files import write_base
from lorita.inference.resolve import resolve
from lorita.models.base import find_base
from lorita.workflows.answering import open_answers
from lorita.workflows.demo import data_file

HERE = Path(__file__).parent
PROMPTS, TOKENS = 20, 16
WAYS = {
    "lorita": ("transformers", "float32"),
    "llama.cpp, the file": ("llama.cpp", "auto"),
    "llama.cpp, float32": ("llama.cpp", "float32"),
}


def repairs(folder: Path) -> tuple[list[str], dict[str, Any]]:
    """Questions that are held out, and the options of a run on the others."""
    rows = (HERE / "data/repairs.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "rows.jsonl").write_text("\n".join(rows[:-PROMPTS]), encoding="utf-8")
    asked = [json.loads(row)["messages"][0]["content"] for row in rows[-PROMPTS:]]
    return asked, {"data": str(folder / "rows.jsonl")}


def roles(folder: Path) -> tuple[list[str], dict[str, Any]]:
    """The beginnings of role prompts after the first 50, which are trained on."""
    with data_file().open(encoding="utf-8", newline="") as file:
        texts = [row["prompt"] for row in csv.DictReader(file)]
    asked = [" ".join(text.split()[:12]) for text in texts[50 : 50 + PROMPTS]]
    return asked, {"data": str(data_file()), "text_field": "prompt", "max_train_samples": 50}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("base", type=Path, nargs="?")
    parser.add_argument("--roles", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = given.base or Path(folder) / "base-q8_0.gguf"
        if not base.exists():
            write_base(find_base("smollm2-135m"), base, "q8_0")
        asked, options = (roles if given.roles else repairs)(Path(folder))
        run = lorita.train(
            model=str(base), base_precision="native", eval_fraction=0, proof=False,
            dtype="float32", output_dir=Path(folder) / "run", **options,
        )  # fmt: skip
        answers = {}
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
