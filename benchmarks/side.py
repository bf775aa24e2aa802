"""One side of one job in its own process: train, measure, print one line of JSON.

python benchmarks/side.py lorita J1 --seed 1
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from jobs import JOBS, SHAPE, Job, make_model, make_rows
from lorita.data.batches import MicroBatch
from lorita.data.examples import Example
from lorita.models.adapter import attach, lora_config, trainable_parameters


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def train_lorita(
    model: Any, job: Job, rows: list[Example], epochs: int, seed: int, base_precision: str | None
) -> None:
    from accelerate import Accelerator

    from lorita.data.batches import steps_per_epoch
    from lorita.engine.speedup import speedup
    from lorita.training.loop import Pace, train
    from lorita.training.objective import end_to_end_loss
    from lorita.training.optimizer import Masters, make_optimizer, make_schedule
    from lorita.training.step import Trainee
    from lorita.training.token_budget import most_tokens

    speedup(model, base_precision=base_precision)
    steps = epochs * steps_per_epoch(len(rows), job.batch_size)
    masters = Masters(trainable_parameters(model))
    optimizer = make_optimizer(masters.parameters, learning_rate=job.learning_rate)
    schedule = make_schedule(optimizer, "linear", warmup_steps=0, max_steps=steps)
    trainee = Trainee(model, masters, optimizer, schedule)
    budget = most_tokens(model.dtype.itemsize, on_cpu=True)
    pace = Pace(steps, job.batch_size, token_budget=budget, seed=seed)
    loss_sum = end_to_end_loss(model, device=torch.device("cpu"))
    for _ in train(trainee, rows, loss_sum, pace, accelerator=Accelerator(cpu=True)):
        pass


def train_peft(
    model: Any, job: Job, rows: list[Example], epochs: int, seed: int, tuned: bool
) -> None:
    """The HF Trainer with its defaults, or tuned: bf16 weights and rows sorted by length."""
    from torch.utils.data import SequentialSampler
    from transformers import Trainer, TrainingArguments

    if tuned:
        rows = sorted(rows, key=lambda row: len(row.input_ids))

    class SortedTrainer(Trainer):
        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            if tuned:
                return SequentialSampler(self.train_dataset)
            return super()._get_train_sampler(*args, **kwargs)

    def collate(batch: list[dict[str, Example]]) -> dict[str, torch.Tensor]:
        return MicroBatch([item["row"] for item in batch]).padded(0, torch.device("cpu"))

    at_once = job.batch_size if tuned else job.rows_at_once or job.batch_size
    arguments = TrainingArguments(
        output_dir="/tmp/lorita-benchmark",
        learning_rate=job.learning_rate,
        num_train_epochs=epochs,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=job.batch_size // at_once,
        use_cpu=True,
        seed=seed,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="no",
        remove_unused_columns=False,
    )
    data = [{"row": row} for row in rows]
    SortedTrainer(model=model, args=arguments, train_dataset=data, data_collator=collate).train()


def held_out_loss(model: Any, rows: list[Example]) -> float:
    """Mean loss by the model's own forward, row by row: the same computation on both sides."""
    total = targets = 0.0
    with torch.no_grad():
        for row in rows:
            ids, labels = torch.tensor([row.input_ids]), torch.tensor(row.labels)
            logits = model(input_ids=ids, use_cache=False).logits[0].float()
            total += float(functional.cross_entropy(logits[:-1], labels[1:], reduction="sum"))
            targets += row.num_targets
    return total / targets


def product_rate(job: Job, dtype: torch.dtype) -> float:
    """FLOP/s that the chip reaches in products of this job's width, with the faster library."""
    width = 1024 if job.model == SHAPE else 576
    x = torch.randn(768, width).to(dtype)
    w = torch.randn(4 * width, width).to(dtype)
    ways = [lambda: functional.linear(x, w)]
    if dtype == torch.float32 and torch.backends.mkldnn.is_available():
        ways.append(lambda: torch.ops.mkldnn._linear_pointwise(x, w, None, "none", [], ""))
    return 2 * 768 * width * 4 * width / min(median_seconds(way) for way in ways)


def median_seconds(call: Callable[[], Any]) -> float:
    """The median of 60 calls."""
    times = []
    for _ in range(60):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return sorted(times)[30]


def step_flops(model: Any, rows: list[Example], heads_width: int) -> float:
    """FLOPs that one pass over the rows needs: 4 per parameter and token (forward, and the gradient
    of the input), the head only at targets, and attention's own products."""
    head = model.get_output_embeddings().weight
    body = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 2 and "lora_" not in n)
    body -= head.numel()
    if head is not model.get_input_embeddings().weight:
        body -= model.get_input_embeddings().weight.numel()
    tokens = sum(len(row.input_ids) for row in rows)
    targets = sum(row.num_targets for row in rows)
    layers = model.config.get_text_config().num_hidden_layers
    # Scores and mixing, forward and both gradients, half of each square: 6 · L²·width per layer.
    attention = sum(6 * len(row.input_ids) ** 2 * heads_width * layers for row in rows)
    return 4.0 * body * tokens + 4.0 * head.numel() * targets + attention


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=["lorita", "lorita-int8", "peft-a", "peft-b"])
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", help="use this base model instead of the job's")
    parser.add_argument("--dtype", help="use this number format instead of the job's")
    parser.add_argument("--no-eval", action="store_true")
    given = parser.parse_args()
    job = replace(
        JOBS[given.job],
        **{name: value for name in ("model", "dtype") if (value := getattr(given, name))},
    )
    is_ours = given.side.startswith("lorita")
    dtype = torch.float32 if given.side == "peft-a" else getattr(torch, job.dtype)
    precision = "int8" if given.side == "lorita-int8" else None
    if is_ours:
        from lorita.engine.numerics import choose_numerics

        choose_numerics(job.dtype).apply()
    epochs = given.epochs or job.epochs
    rows, held_out = make_rows(job, given.data)
    rows = rows[: given.rows]
    model = make_model(job, dtype)
    loaded = peak_mib()
    peft_model = attach(model, lora_config(model, job.lora), seed=given.seed)
    rate_before = product_rate(job, dtype)
    torch.manual_seed(given.seed)
    start = time.perf_counter()
    if is_ours:
        train_lorita(peft_model, job, rows, epochs, given.seed, precision)
    else:
        train_peft(peft_model, job, rows, epochs, given.seed, tuned=given.side == "peft-b")
    seconds = time.perf_counter() - start
    peak = peak_mib()
    # The machine's speed drifts during a run: measure before and after it.
    rate = (rate_before + product_rate(job, dtype)) / 2
    if is_ours:
        from lorita.engine.speedup import unspeed

        unspeed(peft_model)
    peft_model.eval()
    loss = None if given.no_eval or job.model == SHAPE else held_out_loss(peft_model, held_out)
    flops = epochs * step_flops(model, rows, model.config.hidden_size)
    result = {
        "side": given.side,
        "job": job.name,
        "seed": given.seed,
        "seconds": seconds,
        "peak_mib": peak,
        "loaded_mib": loaded,
        "held_out_loss": loss,
        "tokens": epochs * sum(len(row.input_ids) for row in rows),
        "utilisation": flops / seconds / rate,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
