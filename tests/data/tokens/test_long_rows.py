"""Long rows: trained tokens and reported losses add up, for any row and any length."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorita.data.examples import IGNORE, Encoded, Example
from lorita.data.rows import Chat, Message, Pair, Row, Text
from lorita.data.tokens.choose_template import choose_template
from lorita.data.tokens.long_rows import CHOICES, cut_notes, fit_rows
from lorita.data.tokens.tokenize import Treatment, tokenize_rows
from lorita.errors import DataError
from tests.data.tokens.tokenizers import make

BOS = 1


@st.composite
def encoded(draw: st.DrawFn) -> Encoded:
    """A row whose tokens are all different, so that each can be traced."""
    length = draw(st.integers(2, 40))
    begins = draw(st.booleans())
    ids = [BOS if begins else 2, *range(10, 9 + length)]
    if draw(st.booleans()):
        return Encoded(Example(ids, list(ids), 0))
    begin = draw(st.integers(1, length - 1))
    end = draw(st.integers(begin + 1, length))
    earlier = draw(st.integers(0, begin))
    trained = [*range(earlier // 2, earlier), *range(begin, end)]
    labels = [token if i in trained else IGNORE for i, token in enumerate(ids)]
    return Encoded(Example(ids, labels, 0), (begin, end))


def targets(examples: list[Example]) -> Counter[int]:
    return Counter(label for example in examples for label in example.labels[1:] if label != IGNORE)


@settings(max_examples=400, deadline=None)
@given(encoded(), st.integers(2, 45), st.sampled_from(CHOICES), st.sampled_from([BOS, None]))
def test_lost_targets_are_all_reported_and_none_is_doubled(
    row: Encoded, max_length: int, overflow: str, bos: int | None
) -> None:
    result = fit_rows([row], max_length=max_length, overflow=overflow, bos=bos)
    before, after = targets([row.example]), targets(result.examples)
    assert all(len(example.input_ids) <= max_length for example in result.examples)
    assert not after - before
    assert sum((before - after).values()) == result.targets_cut
    for example in result.examples:
        assert all(
            label in (IGNORE, token)
            for token, label in zip(example.input_ids, example.labels, strict=True)
        )
        assert example.num_targets
    if bos is not None and row.example.input_ids[0] == bos:
        assert all(example.input_ids[0] == bos for example in result.examples)
    if len(row.example.input_ids) <= max_length:
        assert result.examples == [row.example]
        assert not result.tokens_cut
    elif overflow == "drop":
        assert not result.examples and result.rows_dropped == 1
    elif row.answer is None and overflow == "split":
        assert before == after and result.tokens_cut == 0 and result.rows_split == 1
    elif row.answer is not None:
        answer = row.example.input_ids[slice(*row.answer)]
        kept = [label for label in result.examples[0].labels if label in answer]
        assert kept == answer[: max_length - 1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(max_size=60), min_size=1, max_size=4),
    st.sampled_from(["text", "pair", "chat"]),
    st.sampled_from(["bytes", "spaces"]),
    st.integers(2, 80),
    st.sampled_from(["truncate", "split"]),
)
def test_every_format_from_text_to_targets(
    texts: list[str], kind: str, family: str, max_length: int, overflow: str
) -> None:
    special = ("<|im_start|>", "<|im_end|>")
    tokenizer = make(family, special, bos="<s>", adds_bos=True)
    template, _ = choose_template(tokenizer, "chatml" if kind == "chat" else None, kind)
    full = [text + "x" for text in texts]
    rows: list[Row] = [Text(text) for text in full]
    if kind == "pair":
        rows = [Pair(text, text) for text in full]
    if kind == "chat":
        turns = [m for text in full for m in (Message("user", text), Message("assistant", text))]
        rows = [Chat(tuple(turns))]
    numbers = range(len(rows))
    whole = tokenize_rows(rows, numbers, tokenizer, Treatment(10**6, template), origin="rows")
    how = Treatment(max_length, template, overflow=overflow)
    cut = tokenize_rows(rows, numbers, tokenizer, how, origin="rows")
    wanted, got = targets(whole.examples), targets(cut.examples)
    assert not got - wanted
    assert sum((wanted - got).values()) == cut.targets_cut
    if kind == "text" and overflow == "split":
        assert wanted == got


def test_split_keeps_the_order() -> None:
    tokenizer = make("bytes")
    text = "What is the capital of France? " * 5
    whole = tokenize_rows([Text(text)], [7], tokenizer, Treatment(999), origin="x").examples[0]
    how = Treatment(9, overflow="split")
    pieces = tokenize_rows([Text(text)], [7], tokenizer, how, origin="x").examples
    spoken = pieces[0].input_ids + [token for piece in pieces[1:] for token in piece.input_ids[1:]]
    assert spoken == whole.input_ids
    assert {piece.row for piece in pieces} == {7}


def test_what_was_cut_is_reported() -> None:
    rows = [Encoded(Example(list(range(10, 30)), list(range(10, 30)), 0), None)] * 2
    for overflow, said in {
        "truncate": "2 of 2 rows are longer than max_length (8): 24 tokens were cut, 24 of which ",
        "split": "were split: 6 pieces in all, no token lost",
        "drop": "were dropped (40 tokens)",
    }.items():
        result = fit_rows(rows, max_length=8, overflow=overflow, bos=None)
        notes = cut_notes(result, rows=2, max_length=8)
        assert len(notes) == 1 and said in notes[0]


def test_no_row_left() -> None:
    tokenizer = make("bytes")
    how = Treatment(3, overflow="drop")
    with pytest.raises(DataError, match=r"every row is longer than max_length \(3\)"):
        tokenize_rows([Text("a long text")], [0], tokenizer, how, origin="x")
