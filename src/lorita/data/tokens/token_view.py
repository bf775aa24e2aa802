"""A row as the model sees it: each token with its text, and whether it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorita.data.examples import IGNORE, Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Token:
    """One token of a row; ``text`` is empty if its character is completed by a later token."""

    text: str
    id: int
    trained: bool
    special: bool


@dataclass(frozen=True)
class RowView:
    """The tokens of a row; ``row`` is its number in the data, counted from 1."""

    row: int
    tokens: list[Token]

    @property
    def trained(self) -> int:
        """How many of its tokens are trained."""
        return sum(token.trained for token in self.tokens)


def glyphs(token: Token) -> str:
    """The token with its white space made visible."""
    shown = token.text.replace(" ", "·").replace("\n", "↵").replace("\t", "→")
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in shown) or "▪"


def view_row(example: Example, tokenizer: PreTrainedTokenizerBase) -> RowView:
    """The tokens of a row. The first is predicted from nothing, and so is never trained."""
    special = {*tokenizer.all_special_ids, *_marked(tokenizer)}
    texts = spell(tokenizer, example.input_ids)
    tokens = [
        Token(text, token, i > 0 and label != IGNORE, token in special)
        for i, (text, token, label) in enumerate(
            zip(texts, example.input_ids, example.labels, strict=True)
        )
    ]
    return RowView(example.row + 1, tokens)


def _marked(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    return {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}


def spell(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """The text of each token; joined, they are the text of the whole row.

    Tokens are decoded together with those before them: some tokenizers drop the space of the first
    token, and a character may span several tokens, of which the last one shows it.
    """
    texts: list[str] = []
    start = read = 0
    for end in range(1, len(ids) + 1):
        before = str(tokenizer.decode(ids[start:read], clean_up_tokenization_spaces=False))
        whole = str(tokenizer.decode(ids[start:end], clean_up_tokenization_spaces=False))
        unfinished = whole.endswith("\ufffd") and end - read < 4 and end < len(ids)
        if unfinished or len(whole) <= len(before):
            texts.append("")
            continue
        texts.append(whole[len(before) :])
        start, read = read, end
    return texts
