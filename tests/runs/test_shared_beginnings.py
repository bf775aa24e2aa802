"""Runs on rows that begin alike: fewer tokens are computed, and the result is the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lorita.data import shared_beginnings
from lorita.settings.build import build_settings
from lorita.training.events import Event, Note, StepDone, TrainingEnded, TrainingStarted
from lorita.workflows.plan import plan_run
from tests import tiny
from tests.runs.test_run import train
from tests.training.test_resume import interrupted, resume

SYSTEM = "You are a gardener. Answer in one line, name one plant, and never promise good weather. "


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with room for a long system prompt."""
    folder = tiny.save_model(tmp_path_factory.mktemp("models") / "roomy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 512}))
    return folder


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    rows = (
        [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"What grows in bed {number}?"},
            {"role": "assistant", "content": f"{number} roses."},
        ]
        for number in range(12)
    )
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in rows))
    return path


@dataclass
class Seen:
    """What a run says, and how many tokens the model is given while it trains."""

    tokens: int = 0
    events: list[Event] = field(default_factory=list)
    trains: bool = False

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self.trains |= isinstance(event, TrainingStarted)
        self.trains &= not isinstance(event, TrainingEnded)

    def counting(self, embed: Callable[..., Any]) -> Callable[..., Any]:
        def call(ids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            self.tokens += ids.numel() if self.trains and torch.is_grad_enabled() else 0
            return embed(ids, *args, **kwargs)

        return call

    @property
    def notes(self) -> list[str]:
        said = [e.text for e in self.events if isinstance(e, Note)]
        return [text for text in said if "share a beginning" in text]

    @property
    def losses(self) -> list[float]:
        return [e.loss for e in self.events if isinstance(e, StepDone)]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Seen]:
    embed = torch.nn.functional.embedding

    def watch() -> Seen:
        found = Seen()
        monkeypatch.setattr(torch.nn.functional, "embedding", found.counting(embed))
        return found

    return watch


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"train_on": "all"},
        {"gradient_checkpointing": True},
        {"packing": True, "max_length": 512, "per_device_train_batch_size": 2},
    ],
    ids=str,
)
def test_fewer_tokens_and_the_same_adapter(
    options: dict[str, Any],
    model: Path,
    chats: Path,
    tmp_path: Path,
    seen: Callable[[], Seen],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, Any] = {
        "text_field": None,
        "eval_fraction": 0,
        "proof": False,
        "max_length": 512,
    }
    given.update({"max_new_tokens": 1, **options})
    shared = seen()
    train(tmp_path / "shared", model, chats, on_event=shared, **given)
    monkeypatch.setattr(shared_beginnings, "LEAST", 10**9)
    apart = seen()
    train(tmp_path / "apart", model, chats, on_event=apart, **given)

    assert apart.notes == []
    (note,) = shared.notes
    number = re.search(r"beginning of (\d+) tokens.*\((\d+)% of the tokens", note)
    assert number is not None
    assert int(number[1]) > len(SYSTEM)
    assert shared.tokens / apart.tokens == pytest.approx(int(number[2]) / 100, abs=0.03)
    assert shared.tokens < 0.6 * apart.tokens
    assert shared.losses == pytest.approx(apart.losses, rel=1e-4)
    mine, theirs = (
        load_file(tmp_path / n / "adapter_model.safetensors") for n in ("shared", "apart")
    )
    for name, value in mine.items():
        assert (value - theirs[name]).norm() <= 1e-2 * theirs[name].norm()


def test_a_resumed_run_ends_with_the_same_bytes(model: Path, chats: Path, tmp_path: Path) -> None:
    options = {"text_field": None, "max_length": 512}
    train(tmp_path / "whole", model, chats, max_steps=9, lora_dropout=0.1, bias="all",
          warmup_steps=2, **options)  # fmt: skip
    interrupted(tmp_path / "run", model, chats, after=4, **options)
    resume(tmp_path / "run")
    one, other = (tmp_path / n / "adapter_model.safetensors" for n in ("whole", "run"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("probe", [True, False])
def test_the_plan_says_it(model: Path, chats: Path, probe: bool) -> None:
    settings = build_settings(
        model=str(model), data=str(chats), max_length=512, use_cpu=True, dtype="float32",
        probe=probe, per_device_train_batch_size=8,
    )  # fmt: skip
    plan = plan_run(settings, data=True)
    assert "Rows share a beginning of" in str(plan)
    assert plan.work is not None
    assert plan.work.computed < 0.6


@pytest.mark.parametrize(
    "options",
    [{"speedup": False}, {"layers_to_transform": [1]}, {"micro_batch_tokens": 1}],
    ids=str,
)
def test_what_cannot_share_says_nothing_about_it(
    options: dict[str, Any], model: Path, chats: Path, tmp_path: Path, seen: Callable[[], Seen]
) -> None:
    found = seen()
    train(
        tmp_path / "run", model, chats, on_event=found, text_field=None, max_steps=1,
        eval_fraction=0, proof=False, max_length=512, **options,
    )  # fmt: skip
    assert found.notes == []


def test_rows_without_a_common_beginning_say_nothing_about_it(
    llama: Path, prompts: Path, tmp_path: Path, seen: Callable[[], Seen]
) -> None:
    found = seen()
    train(tmp_path / "run", llama, prompts, on_event=found, max_steps=1, proof=False)
    assert found.notes == []
