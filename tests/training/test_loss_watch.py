"""The watch: what stops a run, what it warns of once, and that a resumed run behaves the same."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lorita.data.batches import MicroBatch
from lorita.data.examples import Example
from lorita.data.tokens.tokenize import tokenize_texts
from lorita.errors import RunFailed, SettingsError
from lorita.training.advice import advice
from lorita.training.events import (
    BestKept,
    EarlyStopped,
    Evaluated,
    Event,
    StepDone,
    StepSkipped,
)
from lorita.training.loss_watch import Watch, window_of
from tests import tiny
from tests.runs.test_run import train

ROWS = [Example([1, 2], [1, 2], row) for row in (4, 0)]


class Weights:
    """The part of a trainee that the watch uses."""

    def __init__(self) -> None:
        self.parameters = {"w": torch.zeros(1)}
        self.masters = self

    def give_weights(self) -> None:
        pass


def feed(watch: Watch, losses: list[float], trainee: Any = None) -> list[str]:
    trainee = trainee or Weights()
    said = []
    for loss in losses:
        step = watch.seen.steps + 1
        said += [note.text for note in watch.step(step, loss, 1e-3, ROWS, trainee)]
        trainee.parameters["w"] += 1
    return said


def test_divergence_keeps_the_last_good_weights() -> None:
    watch, trainee = Watch(guessing=5.0), Weights()
    with pytest.raises(RunFailed, match="diverged") as caught:
        feed(watch, [4.0, 3.9, 9.0, 9.0, 9.0], trainee)
    hint = str(caught.value)
    assert hint.index("learning rate") < hint.index("--dtype float32") < hint.index("rows 1, 5")
    assert watch.restore_good(trainee) == 1
    assert float(trainee.parameters["w"]) == 1


def test_a_loss_that_stays_far_above_its_start_is_a_divergence() -> None:
    watch, trainee = Watch(guessing=9.0), Weights()
    many = ROWS * 2
    with pytest.raises(RunFailed, match=r"the loss is 6\.00, up from 1\.00"):
        for step, loss in enumerate([1.0, *[6.0] * 10], 1):
            watch.step(step, loss, 1e-3, many, trainee)  # type: ignore[arg-type]
    assert watch.restore_good(trainee) == 0  # type: ignore[arg-type]
    feed(Watch(guessing=9.0), [1.0, *[6.0] * 10])  # steps of two rows do not count


def test_random_weights_are_no_divergence() -> None:
    assert feed(Watch(guessing=5.0), [6.0] * 9) == []


def test_steps_that_are_skipped() -> None:
    watch = Watch(max_skipped_steps=2)
    watch.skipped(1, math.nan, math.nan, 1e-3, ROWS)
    watch.skipped(2, 1.0, math.inf, 1e-3, ROWS)
    feed(watch, [4.0])
    watch.skipped(4, math.nan, math.nan, 1e-3, ROWS)
    watch.skipped(5, math.nan, math.nan, 1e-3, ROWS)
    with pytest.raises(RunFailed, match="3 steps in a row") as caught:
        watch.skipped(6, math.nan, math.nan, 1e-3, ROWS)
    assert "learning rate" in str(caught.value)
    with pytest.raises(RunFailed) as caught:  # no update yet: it is not the learning rate
        Watch(max_skipped_steps=0).skipped(1, math.nan, math.nan, 1e-3, ROWS)
    assert "learning rate" not in str(caught.value)


def test_one_warning_of_spikes() -> None:
    said = feed(Watch(), [4.0, 3.9, 4.1, 4.0, 3.9, 8.0, 3.9, 9.0, 3.8])
    assert len(said) == 1
    assert "jumped to 8.00 from about 3.98" in said[0]


def test_a_loss_that_does_not_fall() -> None:
    assert "is not falling" in feed(Watch(window=5), [4.0, 3.0, 4.0, 3.0, 4.0] * 4)[0]
    assert feed(Watch(window=5), [4.0 - 0.05 * i for i in range(20)]) == []
    assert [window_of(steps) for steps in (1, 3, 7, 50, 51, 4000)] == [5, 6, 7, 50, 50, 50]


def test_held_out_loss_that_rises() -> None:
    watch = Watch(patience=3, window=2)
    said = []
    for training, held_out in ((3.0, 3.5), (2.5, 3.2), (2.0, 3.21), (1.5, 3.4), (1.0, 3.6)):
        assert not watch.out_of_patience
        feed(watch, [training] * 2)
        said += watch.evaluated(watch.seen.steps, held_out)
    assert watch.out_of_patience
    assert watch.best == (4, 3.2)
    assert len(said) == 1
    assert "memorising" in said[0].text
    assert "best 3.200 at step 4, now 3.400" in said[0].text


def test_what_it_has_seen_survives_json() -> None:
    whole, first, second = Watch(window=5), Watch(window=5), Watch(window=5)
    losses = [4.0, 3.9, 4.1, 4.0, 3.9, 8.0, 3.9, 9.0, 3.8, 3.9]
    expected = feed(whole, losses)
    said = feed(first, losses[:6])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert said + feed(second, losses[6:]) == expected
    assert second.seen == whole.seen


GOOD: dict[str, Any] = {
    "rows": 1000, "epochs": 3.0, "steps": 375, "learning_rate": 1e-3, "scaling": 2.0,
    "warmup_steps": 10, "modules_to_save": False, "guarded": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"rows": 50, "epochs": 11.0}, "50 rows are seen 11 times"),
        ({"rows": 50, "epochs": 5.5}, "50 rows are seen 5.5 times"),
        ({"rows": 50, "epochs": 9, "limited": True}, "Lower --max-steps"),
        ({"rows": 50, "epochs": 11.0, "guarded": True}, None),
        ({"learning_rate": 0.1}, "tend to diverge"),
        ({"steps": 5, "warmup_steps": 0}, "few steps (5)"),
        ({"warmup_steps": 375}, "never reaches"),
        ({"rows": 100, "modules_to_save": True}, "whole modules on 100 rows"),
    ],
)
def test_advice(change: dict[str, Any], said: str | None) -> None:
    found = advice(**{**GOOD, **change})
    assert found == [] if said is None else (len(found) == 1 and said in found[0])


# --- in a run ------------------------------------------------------------------------------


def events_of(run: Path, model: Path, data: Path, **options: Any) -> list[Event]:
    events: list[Event] = []
    train(run, model, data, on_event=events.append, **options)
    return events


def finite(folder: Path) -> bool:
    files = list(folder.rglob("*.safetensors"))
    assert files
    texts = [file.read_text() for file in folder.rglob("*.json*")]
    return all(bool(torch.isfinite(t).all()) for f in files for t in load_file(f).values()) and (
        not any("NaN" in text or "Infinity" in text for text in texts)
    )


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that already knows the texts, as a pretrained one would: it can get worse."""
    folder = tiny.save_model(tmp_path_factory.mktemp("models") / "taught", "llama")
    model = tiny.make_model("llama").requires_grad_(True)
    rows = tokenize_texts(tiny.make_texts(24), tiny.make_tokenizer(), max_length=64).examples
    batch = MicroBatch(rows).padded(0, torch.device("cpu"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_learning_rate_of_ten(taught: Path, prompts: Path, tmp_path: Path, dtype: str) -> None:
    run = tmp_path / "run"
    options: dict[str, Any] = {"learning_rate": 10, "num_train_epochs": 9, "save_steps": 1}
    with pytest.raises(RunFailed, match=r"diverged|not finite") as caught:
        train(run, taught, prompts, dtype=dtype, target_modules="all-linear", **options)
    assert "The last good adapter" in str(caught.value)
    assert (run / "adapter_model.safetensors").is_file()
    assert not (run / "lorita.json").exists()
    assert finite(run)


def test_rows_that_give_no_number(llama: Path, prompts: Path, tmp_path: Path) -> None:
    """With a learning rate that overflows float32, steps are skipped, and then the run stops."""
    run = tmp_path / "run"
    with pytest.raises(RunFailed, match="in a row"):
        train(run, llama, prompts, learning_rate=1e3, lora_alpha=1e30, max_grad_norm=0)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    skipped = [event for event in log if event["event"] == "StepSkipped"]
    assert len(skipped) == 4
    assert all(len(event["rows"]) == 4 and min(event["rows"]) >= 1 for event in skipped)
    assert finite(run)


def test_best_is_kept_and_taken(taught: Path, prompts: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options: dict[str, Any] = {
        "learning_rate": 0.05, "num_train_epochs": 9, "max_train_samples": 6, "eval_steps": 1,
    }  # fmt: skip
    events = events_of(
        run, taught, prompts, **options,
        early_stopping_patience=3, load_best_model_at_end=True, save_steps=2, save_total_limit=1,
    )  # fmt: skip
    held_out = {e.step: e.loss for e in events if isinstance(e, Evaluated)}
    best = min(held_out, key=lambda step: held_out[step])
    stopped = next(e for e in events if isinstance(e, EarlyStopped))
    assert (stopped.best_step, stopped.step) == (best, best + 3)
    assert [(e.step, e.loss) for e in events if isinstance(e, BestKept)] == [(best, held_out[best])]
    saved = load_file(run / "adapter_model.safetensors")
    kept = load_file(run / f"checkpoint-{best}" / "adapter_model.safetensors")
    assert all(torch.equal(saved[name], kept[name]) for name in kept)
    comparison = json.loads((run / "compare.json").read_text())
    assert comparison["held_out"]["after"] == pytest.approx(held_out[best], rel=1e-4)
    # Without these options the run takes the same steps, and continues to the end.
    longer = events_of(tmp_path / "longer", taught, prompts, **options)
    losses, all_losses = (
        [e.loss for e in found if isinstance(e, StepDone)] for found in (events, longer)
    )
    assert all_losses[: len(losses)] == losses
    assert len(all_losses) == 18


def test_early_stopping_needs_held_out_rows(llama: Path, prompts: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="need held-out rows"):
        train(tmp_path / "run", llama, prompts, eval_fraction=0, early_stopping_patience=2)
    assert not (tmp_path / "run").exists()


def test_skipped_steps_are_shown() -> None:
    from lorita.workflows.progress import event_line

    line = event_line(StepSkipped(3, math.nan, math.inf, [7, 2]))
    assert line == "Warning: step 3 was skipped: loss nan, gradient norm inf (rows 2, 7)"
