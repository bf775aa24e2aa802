"""The loop by itself: micro-batches do not change the result, and it survives lack of memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model

from lorita.data.batches import MicroBatch
from lorita.data.tokens.tokenize import tokenize_texts
from lorita.engine.speedup import speedup
from lorita.errors import RunFailed
from lorita.models.adapter import adapter_tensors, trainable_parameters
from lorita.training.events import Event, MicroBatchReduced, StepDone
from lorita.training.loop import Pace, train
from lorita.training.objective import LossSum, end_to_end_loss, padded_loss
from lorita.training.optimizer import Masters, make_optimizer, make_schedule
from lorita.training.step import Trainee
from tests import tiny

CPU = torch.device("cpu")


def run(
    budget: int, loss: str = "padded", limit: int | None = None, dtype: torch.dtype = torch.float32
) -> tuple[list[Event], dict[str, torch.Tensor]]:
    """Four steps of eight rows; micro-batches of more than ``limit`` tokens run out of memory."""
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], bias="all", task_type="CAUSAL_LM")
    model = get_peft_model(tiny.make_model("llama").to(dtype), config)
    inner: LossSum
    if loss == "padded":
        inner = padded_loss(model, pad_id=0, device=CPU)
    else:
        speedup(model)
        inner = end_to_end_loss(model, device=CPU)

    def loss_sum(batch: MicroBatch) -> torch.Tensor:
        if limit is not None and batch.num_tokens > limit:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried too much")
        return inner(batch)

    masters = Masters(trainable_parameters(model))
    optimizer = make_optimizer(masters.parameters, learning_rate=1e-3)
    schedule = make_schedule(optimizer, "cosine", warmup_steps=1, max_steps=4)
    examples = tokenize_texts(tiny.make_texts(20), tiny.make_tokenizer(), max_length=64).examples
    events = list(
        train(
            Trainee(model, masters, optimizer, schedule),
            examples,
            loss_sum,
            Pace(max_steps=4, rows_per_step=8, token_budget=budget),
            accelerator=Accelerator(cpu=True),
        )
    )
    return events, adapter_tensors(model)


def losses(events: list[Event]) -> list[float]:
    return [event.loss for event in events if isinstance(event, StepDone)]


@pytest.mark.parametrize("loss", ["padded", "end to end"])
def test_pieces_give_the_whole(loss: str) -> None:
    """The loss is the mean over the step's targets, however the step is split."""
    whole, expected = run(10_000, loss)
    pieces, got = run(40, loss)
    torch.testing.assert_close(losses(pieces), losses(whole), rtol=1e-5, atol=0)
    for name, tensor in expected.items():
        if "bias" not in name:  # softmax cancels some biases: their gradients are rounding errors
            torch.testing.assert_close(got[name], tensor, rtol=2e-3, atol=1e-5)


def test_end_to_end_is_padded() -> None:
    assert losses(run(10_000, "end to end")[0]) == pytest.approx(losses(run(10_000)[0]), rel=1e-5)


def test_memory_that_runs_out_is_survived() -> None:
    expected, _ = run(10_000)
    events, _ = run(10_000, limit=100)
    assert [type(e) for e in events[:2]] == [MicroBatchReduced, MicroBatchReduced]
    assert losses(events) == pytest.approx(losses(expected), rel=1e-5)
    with pytest.raises(RunFailed, match="single row"):
        run(10_000, limit=10)


def test_other_errors_are_not_taken_for_memory() -> None:
    def broken(batch: MicroBatch) -> Any:
        raise RuntimeError("shapes do not fit")

    trainee: Any = None
    torch.manual_seed(0)
    model = get_peft_model(
        tiny.make_model("llama"), LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM")
    )
    masters = Masters(trainable_parameters(model))
    optimizer = make_optimizer(masters.parameters, learning_rate=1e-3)
    schedule = make_schedule(optimizer, "constant", warmup_steps=0, max_steps=1)
    trainee = Trainee(model, masters, optimizer, schedule)
    examples = tokenize_texts(tiny.make_texts(2), tiny.make_tokenizer(), max_length=64).examples
    with pytest.raises(RuntimeError, match="shapes"):
        list(train(trainee, examples, broken, Pace(1, 2, 99), accelerator=Accelerator(cpu=True)))


def test_narrow_parameters_learn_through_float32_copies() -> None:
    """A bias in bfloat16 is changed by updates that bfloat16 alone would lose in rounding."""
    _, tensors = run(10_000, "end to end", dtype=torch.bfloat16)
    start = dict(tiny.make_model("llama").to(torch.bfloat16).named_parameters())
    biases = {n: t for n, t in tensors.items() if n.endswith("bias")}
    assert biases
    assert all(tensor.dtype == torch.bfloat16 for tensor in biases.values())
    name = "model.layers.0.self_attn.v_proj.bias"
    trained = next(t for n, t in biases.items() if "layers.0.self_attn.v_proj" in n)
    assert not torch.equal(trained, start[name])
