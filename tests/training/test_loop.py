"""The loop by itself: micro-batches do not change the result, and it survives lack of memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
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


OTHER_ERRORS = [
    RuntimeError("shapes do not fit"),
    RuntimeError("The size of tensor a (52) must match the size of tensor b (64)"),
    RuntimeError("could not create a primitive"),  # oneDNN's word for a product it does not know
    RuntimeError("memory_format option is only supported by strided tensors"),
    ValueError("out of memory, says a tokenizer"),
]


@pytest.mark.parametrize("error", OTHER_ERRORS, ids=str)
def test_other_errors_are_not_taken_for_memory(error: Exception) -> None:
    def broken(batch: MicroBatch) -> Any:
        raise error

    with pytest.raises(type(error), match=re.escape(str(error))):
        list(train_two_rows(broken))


MEMORY_ERRORS = [
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 68719476736 bytes. Error code 12 (Cannot allocate memory)"
    ),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    MemoryError(),
]


@pytest.mark.parametrize("error", MEMORY_ERRORS, ids=str)
def test_failed_allocations_are_told_as_such(error: Exception) -> None:
    def starved(batch: MicroBatch) -> Any:
        raise error

    with pytest.raises(RunFailed, match=r"a single row of \d+ tokens does not fit in memory"):
        list(train_two_rows(starved))


def test_an_unclear_error_may_be_memory() -> None:
    """oneDNN says this, too, when its buffers do not fit: fewer tokens at a time may help."""
    weight = torch.nn.Parameter(torch.ones(()))

    def starved(batch: MicroBatch) -> Any:
        if len(batch.examples) > 1:
            raise RuntimeError("could not create a primitive")
        return weight * len(batch.examples)

    events = list(train_two_rows(starved))
    assert any(isinstance(event, MicroBatchReduced) for event in events)


def train_two_rows(loss_sum: Any) -> Iterator[Any]:
    """The events of one step over two rows with this loss."""
    torch.manual_seed(0)
    model = get_peft_model(
        tiny.make_model("llama"), LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM")
    )
    masters = Masters(trainable_parameters(model))
    optimizer = make_optimizer(masters.parameters, learning_rate=1e-3)
    schedule = make_schedule(optimizer, "constant", warmup_steps=0, max_steps=1)
    trainee = Trainee(model, masters, optimizer, schedule)
    examples = tokenize_texts(tiny.make_texts(2), tiny.make_tokenizer(), max_length=64).examples
    yield from train(trainee, examples, loss_sum, Pace(1, 2, 99), accelerator=Accelerator(cpu=True))


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
