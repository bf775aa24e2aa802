"""What measuring the result will take, reckoned from a few tokens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lorita.data.examples import Example
from lorita.evaluation.measure import NEW_TOKENS
from lorita.inference.answer_progress import Advance
from lorita.inference.options import GenerationOptions
from lorita.runs import measuring_time
from lorita.runs.measuring_time import Writing, around, time_writing


def examples(tokens: int) -> list[Example]:
    return [Example([1] * tokens, [1] * tokens, 0)]


def questions(*, proof: bool = True) -> Any:
    proved = SimpleNamespace(prompts=["a"] * 2, sample=examples(200), general=examples(3000))
    return SimpleNamespace(
        prompts=["a"] * 3, held_out=examples(10), options=SimpleNamespace(max_new_tokens=50),
        proof=proved if proof else None,
    )  # fmt: skip


def test_both_models_write_and_read_and_are_compared_once() -> None:
    writing = Writing(begin=1.0, token=0.1, first=4.0)
    each = (1.0 + 50 * 0.1) + (1.0 + NEW_TOKENS * 0.1)
    found = around(questions(), 7.0, writing)
    assert (found.before, found.answering) == (7.0, pytest.approx(2 * each + 4.0))
    assert found.scored == 2 * 3210 + 3000


def test_a_base_that_has_answered_is_not_asked() -> None:
    writing = Writing(begin=1.0, token=0.1, first=4.0)
    found = around(questions(), 7.0, writing, asks_base=False)
    assert found.scored == 3210 + 3000
    assert found.answering == pytest.approx(around(questions(), 7.0, writing).answering / 2 - 2.0)
    alone = around(questions(proof=False), 7.0, writing, asks_base=False)
    assert (alone.answering, alone.scored) == (pytest.approx(6.0), 10)


def test_what_begins_answers_is_told_from_their_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 9.0, 10.0, 12.0, 12.2, 12.4, 12.6])
    asked: list[int] = []

    def generate(*given: Any, advance: Advance) -> None:
        asked.append(given[3].max_new_tokens)
        for _ in range(asked[-1]):
            advance(1 / asked[-1])

    monkeypatch.setattr(measuring_time.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(measuring_time, "generate", generate)
    given = SimpleNamespace(
        prompts=["a"], options=GenerationOptions(max_new_tokens=50), tokenizer=None,
        prompt_format=None,
    )  # fmt: skip
    found = time_writing(None, given)  # type: ignore[arg-type]
    assert asked == [1, 4]
    assert (found.begin, found.first) == (2.0, 7.0)
    assert found.token == pytest.approx(0.2)


def test_no_prompts_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring_time, "generate", lambda *given, advance: [])
    given = SimpleNamespace(
        prompts=[], options=GenerationOptions(), tokenizer=None, prompt_format=None
    )
    assert time_writing(None, given) == Writing(0.0, 0.0)  # type: ignore[arg-type]
