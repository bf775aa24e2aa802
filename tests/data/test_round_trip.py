"""Every format, from columns to targets and back: the text to train on is trained exactly once."""

from __future__ import annotations

import json
from typing import Any

from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from lorita.data.examples import IGNORE, Encoded, Example
from lorita.data.formats.choose_format import Wanted
from lorita.data.formats.readers import read_rows
from lorita.data.origin import Origin, Part
from lorita.data.packing import fill_windows
from lorita.data.row_errors import Problems
from lorita.data.rows import Rows
from lorita.data.sources.source import Source
from lorita.data.tokens.choose_template import choose_template
from lorita.data.tokens.encoder import Encoder
from lorita.data.tokens.long_rows import CHOICES, fit_rows
from lorita.data.tokens.tokenize import Treatment, encode_rows
from tests.data.tokens.tokenizers import make

MARKS = ("<|im_start|>", "<|im_end|>")
WORDS = st.text(min_size=1, max_size=50).filter(lambda text: bool(text.strip()))
FORMATS = ("text", "template", "pair", "qa", "alpaca", "messages", "sharegpt", "json", "openai")


def turns(asked: str, said: str, role: str, text: str, names: tuple[str, str]) -> list[Any]:
    return [{role: names[0], text: asked}, {role: names[1], text: said}]


def make_row(kind: str, asked: str, said: str) -> tuple[dict[str, Any], str]:
    """A row in the format, and the text of it that is to be trained."""
    chat = turns(asked, said, "role", "content", ("user", "assistant"))
    end = "<|im_end|>"
    muted = [*turns("more", "not this", "role", "content", ("user", "assistant")), *chat]
    muted[1]["weight"] = 0
    rows: dict[str, tuple[dict[str, Any], str]] = {
        "text": ({"text": said, "id": 1}, said + "</s>"),
        "template": ({"a": asked, "b": said}, f"{asked}: {said}</s>"),
        "pair": ({"prompt": asked, "completion": said}, said + "</s>"),
        "qa": ({"question": asked, "answer": said}, said + "</s>"),
        "alpaca": ({"instruction": asked, "input": "x", "output": said}, said + end),
        "messages": ({"messages": [*chat, *chat]}, (said + end) * 2),
        "sharegpt": (
            {"conversations": turns(asked, said, "from", "value", ("human", "gpt"))},
            said + end,
        ),
        "json": ({"messages": json.dumps(chat)}, said + end),
        "openai": ({"messages": muted, "tools": None}, said + end),
    }
    return rows[kind]


def read(kind: str, rows: list[dict[str, Any]]) -> Rows:
    template = "{a}: {b}" if kind == "template" else None
    source = Source(Dataset.from_list(rows), Origin((Part("rows", len(rows)),)))
    return read_rows(source, Wanted(text_template=template))


def encode(kind: str, rows: list[dict[str, Any]]) -> tuple[list[Encoded], Encoder]:
    tokenizer = make("bytes", MARKS)
    found = read(kind, rows)
    template, _ = choose_template(tokenizer, "chatml" if found.kind == "chat" else None, found.kind)
    encoder, problems = Encoder(tokenizer), Problems("rows")
    how = Treatment(10**6, template)
    encoded = encode_rows(list(found.rows), range(len(rows)), encoder, how, problems)
    assert not problems.found
    return encoded, encoder


def trained(example: Example) -> list[int]:
    return [label for label in example.labels[1:] if label != IGNORE]


def in_order(part: list[int], whole: list[int]) -> bool:
    left = iter(whole)
    return all(token in left for token in part)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(FORMATS),
    st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4),
    st.integers(2, 120),
    st.sampled_from(CHOICES),
)
def test_lost_trained_tokens_are_all_reported_and_none_is_doubled(
    kind: str, texts: list[tuple[str, str]], max_length: int, overflow: str
) -> None:
    rows = [make_row(kind, *text) for text in texts]
    encoded, encoder = encode(kind, [row for row, _ in rows])
    for row, (_, said) in zip(encoded, rows, strict=True):
        labels = [label for label in row.example.labels if label != IGNORE]
        assert encoder.tokenizer.decode(labels, clean_up_tokenization_spaces=False) == said

    fitted = fit_rows(encoded, max_length=max_length, overflow=overflow, bos=encoder.bos)
    lost = 0
    for number, row in enumerate(encoded):
        pieces = [example for example in fitted.examples if example.row == number]
        kept = [token for piece in pieces for token in trained(piece)]
        assert in_order(kept, trained(row.example))
        lost += len(trained(row.example)) - len(kept)
        if overflow == "split" and row.answer is None:
            assert kept == trained(row.example)
    assert lost == fitted.targets_cut
    assert all(len(example.input_ids) <= max_length for example in fitted.examples)

    lengths = [len(example.input_ids) for example in fitted.examples]
    windows = fill_windows(lengths, max_length)
    assert sorted(place for window in windows for place in window) == list(range(len(lengths)))
    assert all(sum(lengths[place] for place in window) <= max_length for window in windows)
