"""The base is asked once for the same questions, and again for any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorita.runs import base_answers, run
from tests.runs.test_run import train


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[object]:
    """Grows by one whenever the base is asked."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    times: list[object] = []
    ask = run.measure_base

    def counted(*given: Any, **options: Any) -> Any:
        times.append(given)
        return ask(*given, **options)

    monkeypatch.setattr(run, "measure_base", counted)
    return times


def compared(folder: Path) -> str:
    return (folder / "compare.json").read_text()


@pytest.mark.parametrize("proof", [True, False])
def test_a_second_run_asks_nothing_and_says_the_same(
    llama: Path, prompts: Path, tmp_path: Path, asked: list[object], proof: bool
) -> None:
    few: dict[str, Any] = {"max_steps": 2, "max_new_tokens": 3, "proof": proof}
    train(tmp_path / "one", llama, prompts, **few)
    train(tmp_path / "two", llama, prompts, **few)
    assert len(asked) == 1
    assert compared(tmp_path / "one") == compared(tmp_path / "two")


def test_other_questions_and_another_base_are_asked(
    llama: Path, bloom: Path, prompts: Path, tmp_path: Path, asked: list[object]
) -> None:
    few: dict[str, Any] = {"max_steps": 2, "max_new_tokens": 3, "proof": False}
    train(tmp_path / "one", llama, prompts, **few)
    for number, change in enumerate(
        ({"max_new_tokens": 4}, {"compare_prompt": ["Act as"]}, {"dtype": "bfloat16"}), 2
    ):
        train(tmp_path / str(number), llama, prompts, **(few | change))
        assert len(asked) == number
    train(tmp_path / "bloom", bloom, prompts, **few)
    assert len(asked) == 5


def test_a_damaged_entry_is_asked_anew(
    llama: Path, prompts: Path, tmp_path: Path, asked: list[object]
) -> None:
    few: dict[str, Any] = {"max_steps": 2, "max_new_tokens": 3, "proof": False}
    train(tmp_path / "one", llama, prompts, **few)
    (kept,) = (tmp_path / "home").rglob(base_answers.VALUES)
    kept.write_text("{")
    train(tmp_path / "two", llama, prompts, **few)
    assert len(asked) == 2
    assert compared(tmp_path / "one") == compared(tmp_path / "two")
