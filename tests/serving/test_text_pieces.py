"""Pieces of text: joined they are the whole, and nothing appears that must not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorita.serving.text_pieces import Detokenizer, StopTexts
from tests import tiny

TOKENIZER = tiny.make_tokenizer()


def decode(ids: object) -> str:
    return TOKENIZER.decode(ids)  # type: ignore[return-value]


@given(st.text(max_size=40))
def test_pieces_of_a_text(text: str) -> None:
    """A token is a byte here, so that every letter beyond ASCII is spread over several."""
    pieces = Detokenizer(decode)
    ids = TOKENIZER(text)["input_ids"]
    shown = [pieces.add(token) for token in ids]
    assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in shown) or "\ufffd" in text
    assert "".join(shown) + pieces.rest() == decode(ids)


def test_half_a_character_comes_at_the_end() -> None:
    ids = TOKENIZER("aß€")["input_ids"][:-1]
    pieces = Detokenizer(decode)
    assert "".join(pieces.add(token) for token in ids) == "aß"
    assert pieces.rest() == "\N{REPLACEMENT CHARACTER}"


@given(
    st.text("ab", max_size=30),
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    st.integers(1, 5),
)
def test_stop_texts(text: str, stops: list[str], size: int) -> None:
    finder = StopTexts(stops)
    shown = ""
    for place in range(0, len(text), size):
        shown += finder.add(text[place : place + size])
        assert not any(stop in shown for stop in stops)
    shown += finder.rest() if finder.found is None else ""
    found = [text.find(stop) for stop in stops if stop in text]
    assert (finder.found is not None) == bool(found)
    if not found:
        assert shown == text
    else:
        assert text.startswith(shown)
        assert shown + (finder.found or "") in text


@pytest.mark.parametrize("stops", [[], [""]])
def test_no_stop_texts(stops: list[str]) -> None:
    finder = StopTexts(stops)
    assert finder.add("abc") == "abc"
    assert finder.rest() == ""
