"""One side of the clock in its own process: the whole job, with a time stamp after each phase.

python benchmarks/clock_side.py lorita-defaults MODEL_FOLDER OUT --started $(date +%s.%N)

Prints one line of JSON: seconds since the start after each phase; with ``--curve N`` also the
held-out loss after every N-th step and the last against the seconds of training, evaluations not
counted.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "examples" / "awesome-chatgpt-prompts.csv"
ROWS, HELD_OUT, NEW_TOKENS = 50, 100, 50
ARTICLE: dict[str, Any] = {
    "r": 4, "lora_alpha": 1.0, "lora_dropout": 0.05, "target_modules": "q_proj,k_proj,v_proj",
    "learning_rate": 3e-2, "per_device_train_batch_size": 8, "num_train_epochs": 2.0,
}  # fmt: skip
"""The article's recipe, two epochs of it; its names of modules are those of BLOOM."""


def lorita_defaults(rows: int, tokens: int) -> dict[str, Any]:
    """What lorita trains so many rows with if nothing is asked for."""
    from lorita.settings.schema import RunSettings
    from lorita.training.schedule import beta2_for, schedule_for

    chosen = schedule_for(rows, tokens)
    fields = RunSettings.model_fields
    return {
        **{name: fields[name].default for name in ARTICLE},
        "per_device_train_batch_size": chosen.rows_per_step,
        "num_train_epochs": float(chosen.epochs),
        "adam_beta2": beta2_for(tokens / rows * chosen.rows_per_step),
    }


class Clock:
    """Seconds since ``started`` at each phase, and the curve of the training."""

    def __init__(self, started: float) -> None:
        self.started, self.phases = started, dict[str, float]()
        self.curve: list[tuple[float, float]] = []
        self.began = self.paused = 0.0

    def mark(self, phase: str) -> None:
        self.phases.setdefault(phase, time.time() - self.started)

    def trained(self) -> float:
        """Seconds of training so far, without the evaluations."""
        return time.time() - self.began - self.paused

    def evaluated(self, loss: float, seconds: float) -> None:
        """Note a loss whose evaluation took so long."""
        self.paused += seconds
        self.curve.append((self.trained(), loss))


def run_lorita(clock: Clock, model: str, out: Path, options: dict[str, Any], curve: int) -> None:
    import lorita
    from lorita.training.events import Evaluated, Event, StepDone, TrainingEnded, TrainingStarted

    step_at = ended = 0.0

    def watch(event: Event) -> None:
        nonlocal step_at, ended
        if isinstance(event, TrainingStarted):
            clock.mark("loaded")
            clock.began = time.time()
        elif isinstance(event, StepDone):
            clock.mark("first step")
            step_at = time.time()
        elif isinstance(event, Evaluated):
            clock.evaluated(event.loss, time.time() - step_at)
        elif isinstance(event, TrainingEnded):
            clock.mark("trained")
            ended = clock.trained()

    clock.mark("imports")
    run = lorita.train(
        model=model, data=str(DATA), text_field="prompt", max_train_samples=ROWS,
        max_eval_samples=HELD_OUT, max_new_tokens=NEW_TOKENS, output_dir=out, overwrite=True,
        use_cpu=True, on_event=watch, **({"eval_steps": curve} if curve else {}), **options,
    )  # fmt: skip
    if run.comparison.held_out is not None:
        clock.curve.append((ended, run.comparison.held_out.after))


def run_peft(
    clock: Clock, folder: str, out: Path, given: dict[str, Any] | None, curve: int
) -> None:
    """The script that one writes after the article: PEFT, the Trainer, answers before and after.

    ``given`` are its settings; None stands for those that lorita would choose.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    clock.mark("imports")
    with DATA.open(encoding="utf-8", newline="") as file:
        texts = [row["prompt"] for row in csv.DictReader(file)]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = [tokenizer(text + tokenizer.eos_token)["input_ids"] for text in texts]
    rows, held_out = ids[:ROWS], ids[ROWS : ROWS + HELD_OUT]
    prompts = [" ".join(text.split()[:8]) for text in texts[ROWS : ROWS + 3]]
    given = given or lorita_defaults(len(rows), sum(map(len, rows)))

    def answers() -> None:
        model.eval()
        for prompt in prompts:
            asked = tokenizer(prompt, return_tensors="pt")
            model.generate(**asked, max_new_tokens=NEW_TOKENS, repetition_penalty=1.5)

    answers()
    targets = given["target_modules"]
    config = LoraConfig(
        r=given["r"], lora_alpha=given["lora_alpha"], lora_dropout=given["lora_dropout"],
        target_modules=targets if targets == "all-linear" else targets.split(","),
        task_type="CAUSAL_LM",
    )  # fmt: skip
    model = get_peft_model(model, config)

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.mark("loaded")
            clock.began = time.time()

        def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            clock.mark("first step")
            if curve and (state.global_step % curve == 0 or state.global_step == state.max_steps):
                started = time.time()
                loss = held_out_loss(model, held_out)
                clock.evaluated(loss, time.time() - started)

    arguments = TrainingArguments(
        output_dir=str(out), learning_rate=given["learning_rate"],
        num_train_epochs=given["num_train_epochs"],
        per_device_train_batch_size=given["per_device_train_batch_size"],
        adam_beta2=given.get("adam_beta2", 0.999),
        use_cpu=True, report_to=[], disable_tqdm=True, save_strategy="no", logging_strategy="no",
    )  # fmt: skip
    Trainer(
        model=model, args=arguments, train_dataset=[{"input_ids": row} for row in rows],
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False), callbacks=[Watch()],
    ).train()  # fmt: skip
    clock.mark("trained")
    model.save_pretrained(out)
    answers()


def held_out_loss(model: Any, rows: list[list[int]]) -> float:
    """Mean loss per token, one row at a time, so that no padding plays a part."""
    import torch

    was_training, total, count = model.training, 0.0, 0
    model.eval()
    with torch.inference_mode():
        for row in rows:
            ids = torch.tensor([row])
            loss = float(model(input_ids=ids, labels=ids).loss)
            total, count = total + loss * (len(row) - 1), count + len(row) - 1
    model.train(was_training)
    return total / count


def sides() -> dict[str, tuple[Any, dict[str, Any]]]:
    """For each side, who trains and with which settings."""
    return {
        "peft, article's settings": (run_peft, ARTICLE),
        "peft, lorita's settings": (run_peft, None),
        "lorita, article's settings": (run_lorita, {**ARTICLE, "proof": False}),
        "lorita, its defaults, no proof": (run_lorita, {"proof": False}),
        "lorita, its defaults": (run_lorita, {}),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("side")
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--started", type=float, default=time.time())
    parser.add_argument("--curve", type=int, default=0)
    given = parser.parse_args()
    clock = Clock(given.started)
    run, options = sides()[given.side]
    run(clock, given.model, given.out, options, given.curve)
    clock.mark("answered")
    last = clock.curve[-1][1] if clock.curve else math.nan
    print(json.dumps({"phases": clock.phases, "curve": clock.curve, "loss": last}))


if __name__ == "__main__":
    main()
