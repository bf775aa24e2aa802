"""A beginning that is computed once: loss and gradients are those of rows computed apart."""

from __future__ import annotations

import random
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from lorita.data.batches import MicroBatch, micro_batches
from lorita.data.examples import IGNORE, Example
from lorita.engine.causal_lm import causal_lm
from lorita.engine.kernels import native
from lorita.engine.patch import patch_of
from lorita.engine.sharing_check import why_not_shared
from lorita.engine.speedup import speedup
from lorita.models.adapter import trainable_parameters
from lorita.training.objective import end_to_end_loss
from lorita.training.optimizer import Masters, make_optimizer, make_schedule
from lorita.training.step import Trainee, fitting_gradients
from tests.engine.steps import tuned

CPU = torch.device("cpu")
WIDE = {"hidden_size": 64, "head_dim": 16}
"""A head size that the compiled attention takes."""
FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("llama", WIDE), ("mistral", WIDE), ("gemma", {"head_dim": 16}), ("gemma2", {"head_dim": 16}),
    ("gemma3", {"head_dim": 16}), ("qwen2", WIDE), ("qwen3", {"head_dim": 16}),
    ("gpt_neox", {"hidden_size": 64}), ("gpt2", {"n_embd": 64}), ("bloom", {"hidden_size": 64}),
    ("falcon-alibi", {"hidden_size": 64}),
]  # fmt: skip


def rows(masked: str) -> list[Example]:
    """Rows with two beginnings, one with none, one that is a beginning and a token, one twice."""
    chance = random.Random(0)

    def some(count: int) -> list[int]:
        return [chance.randrange(3, 90) for _ in range(count)]

    first, second = some(20), some(18)
    pieces = [(first, 5), (second, 3), ([], 9), (first, 1), (first, 8), (second, 7), (second, 2)]
    made = []
    for number, (beginning, own) in enumerate(pieces):
        ids = beginning + some(own)
        hidden = {"nothing": 0, "beginnings": len(beginning), "some": chance.choice([0, 6, 19])}
        labels = [IGNORE] * hidden[masked] + ids[hidden[masked] :]
        made.append(Example(ids, labels, number))
    return [*made, made[0]]


def step(model: nn.Module, examples: list[Example], *, sharing: bool) -> dict[str, torch.Tensor]:
    """Loss and gradients, by name."""
    model.zero_grad()
    (batch,) = micro_batches(examples, 10_000, sharing=sharing)
    assert bool(batch.groups) == sharing
    loss = end_to_end_loss(model, device=CPU)(batch)
    loss.backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **grads}


def require_equal(
    mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], tolerance: float = 2e-5
) -> None:
    assert mine.keys() == theirs.keys()
    assert len(mine) > 4
    for name, value in mine.items():
        assert (value - theirs[name]).norm() <= tolerance * theirs[name].norm(), name


@pytest.mark.parametrize("kernels", ["native", "torch"])
@pytest.mark.parametrize("masked", ["nothing", "beginnings", "some"])
@pytest.mark.parametrize(("name", "changes"), FAMILIES, ids=[name for name, _ in FAMILIES])
def test_loss_and_gradients(name: str, changes: dict[str, Any], masked: str, kernels: str) -> None:
    with native.disabled() if kernels == "torch" else nullcontext():
        model = tuned(name, changes=changes)
        assert speedup(model).packs_rows
        assert why_not_shared(model) is None
        examples = rows(masked)
        require_equal(step(model, examples, sharing=True), step(model, examples, sharing=False))


@pytest.mark.parametrize("how", ["checkpointing", "int8", "not packed"])
def test_ways_to_compute(how: str) -> None:
    model = tuned("llama", changes=WIDE)
    speedup(model, base_precision="int8" if how == "int8" else None)
    if how == "checkpointing":
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    patch = patch_of(causal_lm(model))
    assert patch is not None
    if how == "not packed":  # as after a call that the fast step does not know
        patch.rows = "padded"
        assert why_not_shared(model) == "rows of this model are not laid end to end"
    examples = rows("some")
    # Gradients that are added up before they are rounded to integers are rounded otherwise.
    tolerance = 5e-2 if how == "int8" else 2e-5
    shared, apart = (step(model, examples, sharing=way) for way in (True, False))
    require_equal(shared, apart, tolerance)


def test_memory_runs_out() -> None:
    """Micro-batches shrink as they do for other rows, down to one row with its beginning."""
    model = tuned("llama")
    speedup(model)
    whole = step(model, rows("nothing"), sharing=True)
    model.zero_grad()
    inner = end_to_end_loss(model, device=CPU)

    def loss_sum(batch: MicroBatch) -> torch.Tensor:
        if batch.computed_tokens > 30:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried too much")
        return inner(batch)

    masters = Masters(trainable_parameters(model))
    optimizer = make_optimizer(masters.parameters, learning_rate=1e-3)
    schedule = make_schedule(optimizer, "linear", warmup_steps=0, max_steps=1)
    trainee = Trainee(model, masters, optimizer, schedule, 10_000, shares_beginnings=True)
    examples = rows("nothing")
    reducing = fitting_gradients(1, trainee, examples, loss_sum, Accelerator(cpu=True))
    reduced = []
    while True:
        try:
            reduced.append(next(reducing).tokens)
        except StopIteration as end:
            loss = end.value
            break
    assert reduced[-1] <= 30 < 10_000
    targets = sum(row.num_targets for row in examples)
    assert loss == pytest.approx(float(whole.pop("loss")) / targets, rel=1e-5)
    for name, parameter in model.named_parameters():
        if name in whole:
            torch.testing.assert_close(parameter.grad * targets, whole[name], rtol=1e-3, atol=1e-3)


def test_a_model_in_which_neighbours_matter_does_not_share() -> None:
    """As a convolution would, whose rows are apart only by their positions."""
    model = tuned("llama")
    speedup(model)

    def mix(module: nn.Module, args: Any, out: torch.Tensor) -> torch.Tensor:
        return out + 0.3 * out.roll(1, dims=1)

    layer = causal_lm(model).model.layers[0].mlp
    layer.register_forward_hook(mix)
    assert "hidden states would differ" in (why_not_shared(model) or "")


def test_a_model_that_is_not_sped_up_does_not_share() -> None:
    assert why_not_shared(tuned("llama")) == "rows of this model are not laid end to end"
