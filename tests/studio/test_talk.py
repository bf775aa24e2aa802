"""What a window shows of a chat."""

from __future__ import annotations

import pytest

from lorita.studio.talk import Talk, Turn, shown_talk
from lorita.studio.words import LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_empty_answer_is_told_once_it_has_ended(language: str) -> None:
    words = LANGUAGES[language]
    turn = Turn("hello", base="hi", ended={"base"})
    assert words("was_empty") not in shown_talk(words, Talk("run", [turn]))
    turn.ended.add("tuned")
    assert shown_talk(words, Talk("run", [turn])).count(words("was_empty")) == 1
    turn.tuned = "hi, too"
    assert words("was_empty") not in shown_talk(words, Talk("run", [turn]))
