"""The jobs that both sides of the benchmark run: model, rows, adapter, steps."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BloomConfig, PreTrainedModel

from lorita.data.examples import IGNORE, Example
from lorita.data.tokens.tokenize import tokenize_texts
from lorita.models.base import find_base, load_tokenizer
from lorita.models.base_weights import load_model
from lorita.workflows.demo import data_file

SHAPE = "bloom-560m-shape"
"""The exact shape of bloomz-560m, with random weights."""
QKV = ["q_proj", "k_proj", "v_proj"]


@dataclass(frozen=True)
class Job:
    """One training job. ``make_rows`` builds its training rows and held-out rows."""

    name: str
    what: str
    kind: str
    rows: int
    epochs: int
    lora: dict[str, Any]
    learning_rate: float = 3e-2
    batch_size: int = 8
    model: str = "smollm2-135m"
    dtype: str = "bfloat16"
    rows_at_once: int | None = None
    """For PEFT in float32, if the whole batch needs more than 24 GiB: the rest is accumulated."""
    sides: tuple[str, ...] = ("lorita", "lorita-int8", "peft-a", "peft-b")
    floors: dict[str, float] = field(default_factory=dict)


ARTICLE = {"r": 4, "lora_alpha": 1, "lora_dropout": 0.05, "target_modules": QKV}
WIDE = {"r": 16, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": "all-linear"}
JOBS = {
    job.name: job
    for job in (
        Job("J1", "SmolLM2-135M, 50 prompts, r 4 on q/k/v", "prompts", 50, 10, ARTICLE,
            floors={"peft-a": 5.0, "peft-b": 3.0, "rss": 0.60}),
        Job("J2", "bloomz-560m's shape, 16 prompts, bias lora_only", "prompts", 16, 1,
            {**ARTICLE, "target_modules": ["query_key_value"], "bias": "lora_only"},
            model=SHAPE, floors={"peft-a": 5.5, "peft-b": 2.3, "rss": 0.45}),
        Job("J3", "SmolLM2-135M, 64 rows of 1,000 tokens, r 16 on all linears", "long", 64, 1, WIDE,
            learning_rate=1e-3, rows_at_once=4, floors={"peft-a": 4.0, "peft-b": 2.0, "rss": 0.60}),
        Job("J4", "SmolLM2-135M, long masked prompt, short answer", "chat", 64, 1, ARTICLE,
            floors={"peft-a": 4.0, "peft-b": 2.5, "rss": 0.60}),
        Job("J5", "as J1, float32 on both sides", "prompts", 50, 10, ARTICLE, dtype="float32",
            sides=("lorita", "peft-a"), floors={"peft-a": 2.0, "rss": 0.60}),
    )
}  # fmt: skip


def read_prompts(data: Path | None) -> tuple[list[str], list[str]]:
    """(acts, prompts) from the given CSV file, or from the prompts that come with lorita."""
    with (data or data_file()).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["act"] for row in rows], [row["prompt"] for row in rows]


def make_rows(job: Job, data: Path | None) -> tuple[list[Example], list[Example]]:
    """(training rows, held-out rows) as tokens."""
    acts, prompts = read_prompts(data)
    named = "smollm2-135m" if job.model == SHAPE else job.model
    tokenizer = load_tokenizer(find_base(named))
    encode = lambda texts: tokenize_texts(texts, tokenizer, max_length=4096).examples  # noqa: E731
    if job.kind == "prompts":
        return encode(prompts[: job.rows]), encode(prompts[job.rows : job.rows + 114])
    if job.kind == "long":
        # Rows of about 1,000 tokens: prompts joined together, each row from a different start.
        texts = ["\n\n".join((prompts[i:] + prompts[:i])[:14])[:5200] for i in range(len(prompts))]
        rows = [Example(e.input_ids[:1000], e.labels[:1000], e.row) for e in encode(texts)]
        return rows[: job.rows], rows[job.rows : job.rows + 8]
    rows = []
    for question, answer in zip(encode(prompts), encode(acts), strict=True):
        long = question.input_ids[:-1] * 3
        ids = long + answer.input_ids
        rows.append(Example(ids, [IGNORE] * len(long) + answer.input_ids, question.row))
    return rows[: job.rows], rows[job.rows : job.rows + 60]


def make_model(job: Job, dtype: torch.dtype) -> PreTrainedModel:
    """The base model in ``dtype``: the bundled one, or random weights in a given shape."""
    if job.model != SHAPE:
        return load_model(find_base(job.model), dtype)
    config = BloomConfig(
        vocab_size=250880, hidden_size=1024, n_layer=24, n_head=16, hidden_dropout=0.0
    )
    torch.manual_seed(0)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model = model.to_empty(device="cpu")
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            torch.nn.init.normal_(parameter, std=0.02)
        else:
            torch.nn.init.constant_(parameter, float("norm" in name and "weight" in name))
    model.tie_weights()
    return model.requires_grad_(False).eval()
