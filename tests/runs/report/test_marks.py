"""What differs between two answers is marked, and nothing is lost."""

from __future__ import annotations

import pytest

from lorita.runs.report.marks import MOST_WORDS, marked


def differing(pieces: list) -> str:  # type: ignore[type-arg]
    return "|".join(piece.text for piece in pieces if piece.differs)


@pytest.mark.parametrize(("before", "after", "gone", "new"), [
    ("the same words", "the same words", "", ""),
    ("one", "one", "", ""),
    ("", "", "", ""),
    ("I am a large model.", "I am a large cook.", "model", "cook"),
    ("one word the other lacks", "quite different the rest", "one word the other lacks",
     "quite different the rest"),  # a word in common is chance
    ("我是一个模型", "我是一个厨师", "模型", "厨师"),
    ("", "something new", "", "something new"),
])  # fmt: skip
def test_words_that_differ(before: str, after: str, gone: str, new: str) -> None:
    left, right = marked(before, after)
    assert (differing(left), differing(right)) == (gone, new)


@pytest.mark.parametrize(
    "text", ["a\n\n  b\tc", "é ñ 漢字 👩‍🚀", "<b>&amp;</b>", "x " * MOST_WORDS * 3]
)
def test_all_of_the_text_is_there(text: str) -> None:
    left, right = marked(text, f"{text} more")
    assert "".join(piece.text for piece in left) == text
    assert "".join(piece.text for piece in right) == f"{text} more"
