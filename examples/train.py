"""The Python API: train, compare, generate, load again.

python examples/train.py --output-dir runs/python
"""

from __future__ import annotations

import argparse
from pathlib import Path

import lorita

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", default="smollm2-135m")
parser.add_argument("--output-dir", default="runs/python")
parser.add_argument("--max-steps", type=int, default=12)
given = parser.parse_args()

run = lorita.train(
    model=given.model,
    data=Path(__file__).with_name("awesome-chatgpt-prompts.csv"),
    text_field="prompt",
    r=4,
    learning_rate=3e-3,
    max_steps=given.max_steps,
    compare_prompt="I want you to act as a baker.",
    output_dir=given.output_dir,
)
print(run.compare())
print(run.generate("I want you to act as a sailor.", max_new_tokens=40))

tuned = lorita.load(run.path)
print(tuned.generate("I want you to act as a sailor.", max_new_tokens=40))
