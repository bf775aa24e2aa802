"""A held-out loss that stops falling ends a run by itself, where measuring it costs little."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import lorita
from lorita.errors import Interrupted
from lorita.settings.build import build_settings
from lorita.storage.run_record import read_record
from lorita.training.events import BestKept, EarlyStopped, Evaluated, Event, Note, StepDone
from lorita.workflows.progress import event_line
from tests import tiny
from tests.runs.test_run import train

WORSE: dict[str, Any] = {
    "learning_rate": 0.02, "lr_scheduler_type": "constant", "max_steps": 40, "proof": False,
    "max_new_tokens": 2, "compare_prompt": "I act", "max_train_samples": 12,
    "per_device_train_batch_size": 6,
}  # fmt: skip
"""Rows unlike the held-out ones (``data``): their loss falls at first, and then rises."""


def events_of(run: Path, model: Path, data: Path, **options: Any) -> list[Event]:
    events: list[Event] = []
    given = {**WORSE, "eval_data": data.with_name("held.csv"), **options}
    train(run, model, data, **given, on_event=events.append)
    return events


def found(events: list[Event], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [f"{i * 37 % 101} {text}" for i, text in enumerate(tiny.make_texts(24))]
    folder = tmp_path_factory.mktemp("data")
    tiny.write_csv(folder / "held.csv", ["Rain, roof? QZX!", "Nine BOATS; five."])
    return tiny.write_csv(folder / "rows.csv", texts)


@pytest.fixture(scope="module")
def whole(
    llama: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Event]]:
    run = tmp_path_factory.mktemp("runs") / "whole"
    return run, events_of(run, llama, data, dtype="float32")


def test_it_ends_and_the_best_adapter_is_kept(
    whole: tuple[Path, list[Event]], llama: Path, data: Path, tmp_path: Path
) -> None:
    run, events = whole
    losses = {e.step: e.loss for e in found(events, Evaluated)}
    assert list(losses) == list(range(4, max(losses) + 1, 4))
    best = min(losses, key=lambda step: losses[step])
    (stopped,), (kept,) = found(events, EarlyStopped), found(events, BestKept)
    assert (stopped.best_step, stopped.step) == (best, best + 12) and stopped.step < 40
    assert kept == BestKept(best, losses[best])
    assert event_line(stopped) == (
        f"Held-out loss stopped falling at step {best} ({losses[best]:.4f}): training ends after "
        f"step {best + 12}"
    )
    assert str(best) in (event_line(kept) or "")
    assert any("measured every 4 steps; training ends when" in n.text for n in found(events, Note))
    # The adapter of that step, and nothing that was kept on the way.
    events_of(tmp_path / "b", llama, data, max_steps=40, save_steps=best)
    mine, then = (
        load_file(folder / "adapter_model.safetensors")
        for folder in (run, tmp_path / "b" / f"checkpoint-{best}")
    )
    assert all(torch.equal(mine[name], then[name]) for name in then)
    assert not list(run.glob("checkpoint-*"))
    record = read_record(run)
    assert record is not None
    assert (record.figures.steps, record.figures.kept_step) == (best + 12, best)
    assert record.figures.held_out_loss_tuned == pytest.approx(losses[best], rel=1e-4)
    names = [json.loads(line)["event"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert names.count("EarlyStopped") == names.count("BestKept") == 1


def test_its_settings_repeat_it(whole: tuple[Path, list[Event]], tmp_path: Path) -> None:
    run, _ = whole
    written = build_settings(run / "run.yaml")
    assert (written.early_stopping_patience, written.eval_steps) == (3, 4)
    assert written.load_best_model_at_end is True
    lorita.train(config=run / "run.yaml", output_dir=tmp_path / "b", on_event=lambda event: None)
    names = ("adapter_model.safetensors", "compare.json")
    assert all((run / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)


@pytest.mark.parametrize("after", [2, 13])
def test_a_resumed_run_ends_alike(
    whole: tuple[Path, list[Event]], llama: Path, data: Path, tmp_path: Path, after: int
) -> None:
    run = tmp_path / "run"

    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == after:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        train(run, llama, data, **WORSE, eval_data=data.with_name("held.csv"), on_event=stop)
    events = events_of(run, llama, data, resume=True)
    assert found(events, EarlyStopped) == found(whole[1], EarlyStopped)
    name = "adapter_model.safetensors"
    assert (run / name).read_bytes() == (whole[0] / name).read_bytes()
    assert (run / "compare.json").read_bytes() == (whole[0] / "compare.json").read_bytes()


DEAR = {"eval_data": None, "eval_fraction": 0.5, "max_train_samples": None, "max_steps": 20}
"""As many rows are held out as are trained."""


@pytest.mark.parametrize(
    ("options", "steps", "measured"),
    [
        ({"early_stopping_patience": 0}, 40, 0),
        ({"load_best_model_at_end": False}, 40, 0),
        ({"early_stopping_patience": 0, "eval_steps": 10}, 40, 3),
        ({"eval_data": None, "eval_fraction": 0}, 40, 0),
        ({"max_steps": 19}, 19, 0),
        ({"eval_steps": 10}, 40, 3),  # too seldom to end a run
        (DEAR, 20, 0),
        # What is asked for is done, whatever it costs.
        (DEAR | {"load_best_model_at_end": True, "eval_steps": 5}, 20, 4),
    ],
)
def test_when_it_is_left_alone(
    llama: Path, data: Path, tmp_path: Path, options: dict[str, Any], steps: int, measured: int
) -> None:
    events = events_of(tmp_path / "run", llama, data, **options)
    assert len(found(events, StepDone)) == steps
    assert len(found(events, Evaluated)) == measured
    assert not found(events, EarlyStopped)
    assert bool(found(events, BestKept)) == bool(options.get("load_best_model_at_end"))


def test_a_healthy_run_comes_to_its_end(llama: Path, data: Path, tmp_path: Path) -> None:
    options = {"learning_rate": 2e-3, "lr_scheduler_type": "linear", "max_steps": 20}
    options |= {"eval_data": None, "max_train_samples": 22}
    events = events_of(tmp_path / "run", llama, data, **options)
    assert len(found(events, StepDone)) == 20 and len(found(events, Evaluated)) == 10
    assert found(events, BestKept)[0].step == 20
