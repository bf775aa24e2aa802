"""One step of tiny models, by the fast path and by transformers and PEFT."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn import functional

from lorita.engine.packed_model import packed_loss
from lorita.engine.speedup import speedup, unspeed
from tests.engine.families import VOCAB, make

LENGTHS = (9, 1, 4, 13)
QUERIES = ["q_proj", "query_key_value", "c_attn", "qkv_proj"]
"""Modules with the queries, by the names of all families."""


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels of packed rows; some positions have no target."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, VOCAB, (sum(LENGTHS),), generator=generator)
    labels = ids.clone()
    labels[2:5] = -100
    return ids, labels


def padded() -> dict[str, torch.Tensor]:
    """The same rows as a padded batch."""
    ids, labels = rows()
    width = max(LENGTHS)
    batch = {
        "input_ids": torch.zeros(len(LENGTHS), width, dtype=torch.long),
        "attention_mask": torch.zeros(len(LENGTHS), width, dtype=torch.long),
        "labels": torch.full((len(LENGTHS), width), -100),
    }
    start = 0
    for i, length in enumerate(LENGTHS):
        batch["input_ids"][i, :length] = ids[start : start + length]
        batch["labels"][i, :length] = labels[start : start + length]
        batch["attention_mask"][i, :length] = 1
        start += length
    return batch


def tuned(
    name: str,
    dtype: torch.dtype = torch.float32,
    changes: dict[str, Any] | None = None,
    **lora: Any,
) -> PeftModel:
    """A tiny model with an adapter whose B is not zero, in training mode.

    ``changes`` are to the config of the family.
    """
    options: dict[str, Any] = {"r": 3, "lora_alpha": 6, "target_modules": "all-linear"}
    config = LoraConfig(task_type="CAUSAL_LM", **{**options, **lora})
    model = get_peft_model(make(name, dtype, **changes or {}), config)
    generator = torch.Generator().manual_seed(1)
    for where, parameter in model.named_parameters():
        if "lora_B" in where:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return model.train()


def plain_loss(model: PeftModel) -> torch.Tensor:
    """The summed loss of the padded batch, from the logits of the model's own forward."""
    batch = padded()
    labels = batch.pop("labels")
    logits = model(**batch, use_cache=False).logits
    return functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), reduction="sum"
    )


def gradients(model: PeftModel, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradients of the trained parameters, by name."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    return {n: g for n, g in zip(trained, grads, strict=True) if g is not None}


def assert_same_step(model: PeftModel, tolerance: float = 1e-5) -> None:
    """The fast path returns the plain loss and the plain gradient of every parameter."""
    unspeed(model)
    expected_loss = plain_loss(model)
    expected = gradients(model, expected_loss)
    report = speedup(model)
    assert report.packs_rows, report
    loss = packed_loss(model, *rows(), LENGTHS)
    got = gradients(model, loss)
    assert abs(loss - expected_loss) <= tolerance * abs(expected_loss)
    assert got.keys() == expected.keys()
    largest = max(float(gradient.norm()) for gradient in expected.values())
    for name, gradient in expected.items():
        distance = float((got[name] - gradient).norm())
        # Some gradients are zero except for rounding: a bias that cancels in the softmax.
        assert distance <= 3 * tolerance * max(float(gradient.norm()), 1e-2 * largest), name
