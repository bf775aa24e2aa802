"""A run's memory: the same figure in plan and train, without weights, and what is too much."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from lorita.engine.decoding.writer import Writer
from lorita.errors import ModelError
from lorita.evaluation import scores
from lorita.runs import base_form
from lorita.settings.build import build_settings
from lorita.system.memory import CONTAINER, Room
from lorita.workflows.plan import plan_run
from tests.runs.test_run import train


def planned(model: Path, data: Path, **options: Any) -> Any:
    given: dict[str, Any] = {"dtype": "float32", "text_field": "prompt", "use_cpu": True}
    given |= {"per_device_train_batch_size": 4, "num_train_epochs": 2, "probe": False}
    return plan_run(build_settings(model=str(model), data=str(data), **given | options), data=True)


def test_plan_needs_no_weights(llama: Path, prompts: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(llama, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    plan, full = planned(bare, prompts), planned(llama, prompts)
    assert plan.forecast.peak_bytes == pytest.approx(full.forecast.peak_bytes, rel=0.05)
    assert plan.work == full.work
    assert "Time: not measured" in str(plan)


def test_no_weights_are_read_for_it(
    llama: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorita.workflows.plan.load_base", lambda *a: pytest.fail("loaded"))
    planned(llama, prompts)


def test_plan_and_train_forecast_the_same(llama: Path, prompts: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    train(
        tmp_path / "run", llama, prompts, proof=False,
        on_event=lambda event: notes.append(str(getattr(event, "text", ""))),
    )  # fmt: skip
    forecast = planned(llama, prompts).forecast.memory_line()
    said = next(note for note in notes if note.startswith("Memory: "))
    both = [float(re.findall(r"about ([\d.]+) GB", line)[0]) for line in (said, forecast)]
    assert both[0] == pytest.approx(both[1], rel=0.1)


def test_an_earlier_peak_of_the_process_is_not_forecast(
    llama: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a notebook or a sweep, something larger may have run before."""
    before = planned(llama, prompts, probe=True).forecast.peak_bytes
    monkeypatch.setattr("lorita.runs.loaded_base.peak_memory", lambda: 10**12)
    monkeypatch.setattr("lorita.runs.training_job.peak_memory", lambda: 10**12)
    again = planned(llama, prompts, probe=True).forecast.peak_bytes
    assert again == pytest.approx(before, rel=0.2)


@pytest.mark.parametrize(
    "options",
    [
        {"num_train_epochs": 9, "early_stopping_patience": 0},
        {"max_steps": 3, "warmup_steps": 5},
        {"eval_steps": 90},
        {"learning_rate": 0.5},
    ],
)
def test_without_a_probe_the_same_is_warned_of(
    options: dict[str, Any], llama: Path, prompts: Path
) -> None:
    plain, probed = (planned(llama, prompts, **options, probe=probe) for probe in (False, True))
    assert plain.warnings == probed.warnings and len(plain.warnings) >= 2
    assert plain.work == probed.work


def test_a_run_that_cannot_fit_writes_and_loads_nothing(
    llama: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_form, "room", lambda: Room(50_000_000, 550_000_000, CONTAINER))
    monkeypatch.setattr("lorita.runs.loaded_base.load_model", lambda *a: pytest.fail("loaded"))
    with pytest.raises(ModelError, match=r"training needs about .* the container allows 0\.6 GB"):
        train(tmp_path / "run", llama, prompts)
    assert not (tmp_path / "run").exists()
    warning = planned(llama, prompts).warnings[-1]
    assert "the container allows 0.6 GB" in warning


@pytest.mark.parametrize(
    "said",
    [
        "DefaultCPUAllocator: can't allocate memory: you tried",
        "could not create a primitive",  # oneDNN's words where its buffers do not fit
    ],
)
def test_proof_and_answers_in_smaller_pieces_where_memory_runs_out(
    llama: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """As with enough memory, but for rounding; nothing is lost after the last step."""
    asked = ["I act as a cook.", "My tea", "A teacher"]
    plain = train(tmp_path / "plain", llama, prompts, compare_prompt=asked)
    failed: list[str] = []

    def failing(real: Any, size: Any, what: str) -> Any:
        def compute(*args: Any, **kwargs: Any) -> Any:
            if size(args) > 1:
                failed.append(what)
                raise RuntimeError(said)
            return real(*args, **kwargs)

        return compute

    at_targets = failing(scores._at_targets, lambda a: len(a[1].examples), "scores")
    monkeypatch.setattr(scores, "_at_targets", at_targets)
    begun = failing(Writer.prefill, lambda a: len(a[1]), "answers")
    monkeypatch.setattr(Writer, "prefill", begun)
    tight = train(tmp_path / "tight", llama, prompts, compare_prompt=asked)
    assert {"scores", "answers"} <= set(failed)
    assert tight.losses == plain.losses
    mine, theirs = tight.comparison.proof, plain.comparison.proof
    assert mine is not None and theirs is not None
    assert mine.forgot.change.value == pytest.approx(theirs.forgot.change.value, abs=1e-4)
    assert [a.after for a in tight.comparison.answers] == [
        a.after for a in plain.comparison.answers
    ]
