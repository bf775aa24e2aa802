"""Packing: windows are full and hold every row once; resuming works; losses equal padded rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

import lorita
from lorita.data.batches import MicroBatch, iterate_steps
from lorita.data.examples import IGNORE, Example
from lorita.data.packing import fill_windows
from lorita.engine.speedup import speedup, unspeed
from lorita.errors import Interrupted
from lorita.training.events import Event, Note, StepDone, TrainingStarted
from lorita.training.objective import end_to_end_loss, padded_loss
from tests import tiny
from tests.engine.families import VOCAB, make
from tests.runs.test_run import train

CPU = torch.device("cpu")


@given(st.lists(st.integers(1, 50), max_size=200), st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_windows_hold_every_row_once(lengths: list[int], size: int) -> None:
    windows = fill_windows(lengths, size)
    assert sorted(i for window in windows for i in window) == list(range(len(lengths)))
    for window in windows:
        assert sum(lengths[i] for i in window) <= size or len(window) == 1
    # Best fit: no two windows would fit into one.
    fills = sorted(sum(lengths[i] for i in window) for window in windows)
    assert len(fills) < 2 or fills[0] + fills[1] > size


def test_long_corpora_fill_their_windows() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 513, (2000,), generator=generator).tolist()
    windows = fill_windows(lengths, 512)
    assert sum(lengths) / (512 * len(windows)) > 0.99


def test_every_epoch_has_every_row_once_and_any_step_can_be_the_first() -> None:
    rows = [Example([1] * n, [1] * n, i) for i, n in enumerate([5, 3, 9, 2, 2, 7, 1, 4])]
    windows = fill_windows([len(row.input_ids) for row in rows], 10)
    options: dict[str, Any] = {"rows_per_step": 2, "seed": 3, "windows": windows}
    per_epoch = -(-len(windows) // 2)
    steps = iterate_steps(rows, **options)
    first = [[row.row for row in next(steps)] for _ in range(2 * per_epoch)]
    for epoch in (first[:per_epoch], first[per_epoch:]):
        assert sorted(row for step in epoch for row in step) == list(range(8))
    for start in range(len(first)):
        later = iterate_steps(rows, **options, first_step=start)
        assert [row.row for row in next(later)] == first[start]


@pytest.mark.parametrize("family", ["llama", "bloom", "gpt2", "gemma2", "gemma3"])
def test_packed_is_padded(family: str) -> None:
    """Rows laid end to end in a window have the loss and gradients of the same rows, padded."""
    generator = torch.Generator().manual_seed(2)
    rows = []
    for number, length in enumerate([11, 3, 17, 2, 8, 6, 13]):
        ids = torch.randint(3, VOCAB, (length,), generator=generator).tolist()
        labels = [IGNORE if place < number else token for place, token in enumerate(ids)]
        rows.append(Example(ids, labels, number))
    window = MicroBatch([rows[i] for i in fill_windows([len(r.input_ids) for r in rows], 60)[0]])
    assert len(window.examples) == len(rows)
    options: dict[str, Any] = {"r": 2, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    model = get_peft_model(make(family), LoraConfig(**options)).train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    trained = [p for p in model.parameters() if p.requires_grad]
    expected_loss = padded_loss(model, pad_id=0, device=CPU)(window)
    expected = torch.autograd.grad(expected_loss, trained)
    speedup(model)
    loss = end_to_end_loss(model, device=CPU)(window)
    got = torch.autograd.grad(loss, trained)
    unspeed(model)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=0)
    largest = max(float(gradient.norm()) for gradient in expected)
    for one, other in zip(got, expected, strict=True):
        assert float((one - other).norm()) <= 3e-5 * max(float(other.norm()), 1e-2 * largest)


def test_a_packed_run_resumes(llama: Path, tmp_path: Path) -> None:
    texts = [" ".join(tiny.WORDS[i % 7 :]) * (1 + i % 5) for i in range(40)]
    data = tiny.write_csv(tmp_path / "texts.csv", texts)
    options: dict[str, Any] = {
        "packing": True,
        "max_length": 120,
        "per_device_train_batch_size": 6,
        "max_steps": 8,
        "lora_dropout": 0.1,
    }
    seen: list[Event] = []
    train(tmp_path / "whole", llama, data, **options, on_event=seen.append)
    said = [event.text for event in seen if isinstance(event, Note)]
    assert any(text.startswith("packing: ") and "windows of 120 tokens" in text for text in said)
    assert any("were split" in text and "no token lost" in text for text in said)
    started = next(event for event in seen if isinstance(event, TrainingStarted))
    steps = [event for event in seen if isinstance(event, StepDone)]
    assert max(step.tokens for step in steps) <= 6 * 120
    epoch = round(1 / (steps[1].epoch - steps[0].epoch))
    assert sum(step.tokens for step in steps[:epoch]) == started.tokens_per_epoch

    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 4:
            import signal

            signal.raise_signal(signal.SIGINT)

    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(run, llama, data, **options, on_event=stop)
    lorita.train(config=run / "run.yaml", output_dir=run, resume=True, on_event=lambda event: None)
    name = "adapter_model.safetensors"
    assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_pieces_of_one_row_are_kept_apart_below_the_first_adapted_layer(
    llama: Path, tmp_path: Path
) -> None:
    """The output of lower layers is kept by a row's tokens: pieces of a row share its number."""
    data = tiny.write_csv(tmp_path / "texts.csv", [f"{i} bread and tea " * 9 for i in range(12)])
    losses = {}
    for fast in (True, False):
        result = train(
            tmp_path / str(fast), llama, data, overflow="split", max_length=40, max_steps=8,
            layers_to_transform=[1], target_modules=["q_proj"], speedup=fast, seed=1,
        )  # fmt: skip
        losses[fast] = result.losses
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)
