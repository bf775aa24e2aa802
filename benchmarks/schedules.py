"""Batch size, learning rate and epochs behind lorita's defaults: one training for each point.

    python benchmarks/schedules.py results.jsonl --model smollm2-135m --sets roles,repairs \\
        --rows-per-step 4,8 --learning-rate 1e-3,2e-3,4e-3 --epochs 1,2

Each point is a whole training with its own linear schedule; the figure is the loss on held-out rows
at its end. Points that the file holds already are skipped. The sets, from tens of rows to hundreds:

- article: the article's prompts, 100 of the others held out; plain text.
- roles, roles-es: role prompts that come with lorita, English and Spanish; plain text.
- repairs, repairs-12: questions about household repairs and their answers; chats.
- signatures: functions of Python's standard library to a sentence; prompt and completion.
- code: functions of the standard library as they are written; plain text.
- sentences, sentences-2000: first sentences of its docstrings, short rows; plain text.

``--base-precision none,int8`` trains each point with and without 8-bit products; the loss is always
that of the model in its own dtype. ``--data FOLDER`` keeps the rows that are made here, so that
several machines train on the same.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import itertools
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from defaults import signatures

from lorita.data.examples import Example

HERE = Path(__file__).parent
RESOURCES = HERE.parent / "src/lorita/resources"
SETS: dict[str, tuple[int, int, dict[str, Any]]] = {
    "article": (50, 100, {"text_field": "prompt"}),
    "roles": (50, 60, {"text_field": "prompt"}),
    "roles-es": (20, 11, {"text_field": "prompt"}),
    "repairs": (44, 40, {}),
    "repairs-12": (12, 40, {}),
    "signatures": (80, 60, {"chat_template": "none"}),
    "code": (60, 40, {"text_field": "text", "max_length": 384}),
    "sentences": (600, 60, {"text_field": "text"}),
    "sentences-2000": (2000, 60, {"text_field": "text"}),
}
"""Rows to train on, rows held out, and how they are read."""


def functions(count: int) -> list[str]:
    """Sources of functions of the standard library, 300 to 1,200 characters each."""
    found = []
    for file in sorted(Path(inspect.__file__).parent.glob("*.py")):
        source = file.read_text(encoding="utf-8", errors="replace")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                text = ast.get_source_segment(source, node) or ""
                if 300 <= len(text) <= 1200:
                    found.append(text)
    return random.Random(0).sample(found, count)


def sentences(count: int) -> list[str]:
    """First sentences of docstrings, 30 to 120 characters each."""
    found = set()
    for file in sorted(Path(inspect.__file__).parent.glob("**/[a-z]*.py")):
        if {"site-packages", "test", "idlelib", "lib2to3"} & set(file.parts):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8", errors="replace"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                first = (ast.get_docstring(node) or "").partition("\n\n")[0]
                text = " ".join(first.split())
                if 30 <= len(text) <= 120:
                    found.add(text)
    return random.Random(0).sample(sorted(found), count)


def data_of(name: str, folder: Path) -> Path:
    """The file of a data set, written first where it is made here."""
    ready = {
        "article": HERE.parent / "examples/awesome-chatgpt-prompts.csv",
        "roles": RESOURCES / "role_prompts.csv",
        "roles-es": RESOURCES / "role_prompts_es.csv",
        "repairs": HERE / "data/repairs.jsonl",
        "repairs-12": HERE / "data/repairs.jsonl",
    }
    if name in ready:
        return ready[name]
    made: dict[str, Any] = {
        "signatures": signatures,
        "code": lambda: [{"text": text} for text in functions(100)],
        "sentences": lambda: [{"text": text} for text in sentences(660)],
        "sentences-2000": lambda: [{"text": text} for text in sentences(2060)],
    }
    file = folder / f"{name}.jsonl"
    if not file.exists():
        file.write_text("".join(json.dumps(row) + "\n" for row in made[name]()), encoding="utf-8")
    return file


def rows_of(name: str, model: str, folder: Path) -> tuple[list[Example], list[Example]]:
    """(training rows, held-out rows) as lorita reads them."""
    from lorita.runs.prepare import prepare
    from lorita.settings.build import build_settings

    count, held_out, options = SETS[name]
    settings = build_settings(
        model=model, data=str(data_of(name, folder)), max_train_samples=count,
        max_eval_samples=held_out, output_dir=folder / name, **options,
    )  # fmt: skip
    data = prepare(settings, writes=False).data
    return list(data.train), list(data.held_out)


def train_once(
    model: Any, rows: list[Example], held_out: list[Example], point: dict[str, Any]
) -> dict[str, float]:
    """Train a new adapter on ``model`` and take it off again: its held-out loss and seconds."""
    import torch
    from accelerate import Accelerator

    from lorita.data.batches import steps_per_epoch
    from lorita.engine.speedup import speedup, unspeed
    from lorita.evaluation.scores import score_rows
    from lorita.models import adapter as adapters
    from lorita.training.loop import Pace, train
    from lorita.training.objective import end_to_end_loss
    from lorita.training.optimizer import Masters, make_optimizer, make_schedule
    from lorita.training.step import Trainee
    from lorita.training.token_budget import most_tokens

    options = {"r": point["r"], "lora_alpha": 2 * point["r"], "lora_dropout": 0.0}
    config = adapters.lora_config(model, {**options, "target_modules": "all-linear"})
    biases = adapters.untouched(model)
    tuned = adapters.attach(model, config, seed=point["seed"])
    quick = None if point["base_precision"] == "none" else point["base_precision"]
    speedup(tuned, base_precision=quick)
    steps = max(1, round(point["epochs"] * steps_per_epoch(len(rows), point["rows_per_step"])))
    masters = Masters(adapters.trainable_parameters(tuned))
    optimizer = make_optimizer(
        masters.parameters, learning_rate=point["learning_rate"], betas=(0.9, point["beta2"])
    )
    schedule = make_schedule(optimizer, "linear", warmup_steps=0, max_steps=steps)
    budget = most_tokens(model.dtype.itemsize, on_cpu=model.device.type == "cpu")
    pace = Pace(steps, point["rows_per_step"], token_budget=budget, seed=point["seed"])
    accelerator = Accelerator(cpu=model.device.type == "cpu")
    loss_sum = end_to_end_loss(tuned, device=model.device)
    started = time.perf_counter()
    torch.manual_seed(point["seed"])
    for _ in train(
        Trainee(tuned, masters, optimizer, schedule), rows, loss_sum, pace,
        accelerator=accelerator,
    ):  # fmt: skip
        pass
    seconds = time.perf_counter() - started
    if quick is not None:  # no figure is of 8-bit products
        unspeed(model)
        speedup(tuned)
    loss = score_rows(tuned, held_out, model.device).rows().mean
    trained = score_rows(tuned, rows[:24], model.device).rows().mean
    unspeed(model)
    adapters.take_off(tuned, biases)
    return {"loss": loss, "training_loss": trained, "seconds": seconds, "steps": steps}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path)
    for name, values in (
        ("rows-per-step", "4,8"), ("learning-rate", "2e-3"), ("epochs", "1"), ("seed", "42"),
        ("beta2", "0.999"), ("r", "8"), ("base-precision", "none"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", default=values)
    given = parser.parse_args()

    from lorita.engine.numerics import choose_numerics
    from lorita.models.base import find_base
    from lorita.models.base_weights import load_model

    kinds = {"rows_per_step": int, "learning_rate": float, "epochs": float, "seed": int,
             "beta2": float, "r": int, "base_precision": str}  # fmt: skip
    values = [[kind(v) for v in getattr(given, n).split(",")] for n, kind in kinds.items()]
    numerics = choose_numerics(device=given.device)
    numerics.apply()
    model = load_model(find_base(given.model), numerics.dtype).to(given.device)
    lines = given.results.read_text().splitlines() if given.results.exists() else []
    done = [{k: v for k, v in json.loads(line).items() if k not in RESULT} for line in lines]
    with tempfile.TemporaryDirectory() as folder, given.results.open("a") as out:
        for name in given.sets.split(","):
            rows, held_out = rows_of(name, given.model, given.data or Path(folder))
            for chosen in itertools.product(*values):
                point = {"model": given.model, "set": name, **dict(zip(kinds, chosen, strict=True))}
                if point not in done:
                    result = train_once(model, rows, held_out, point)
                    out.write(json.dumps({**point, **result}) + "\n")
                    out.flush()


RESULT = ("loss", "training_loss", "seconds", "steps")

if __name__ == "__main__":
    main()
