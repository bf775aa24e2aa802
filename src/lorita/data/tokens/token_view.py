"""A row as the model sees it: every token with its text, and whether it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorita.data.examples import IGNORE, Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Token:
    """``text`` is empty for a token whose character is only complete with a later one."""

    text: str
    id: int
    trained: bool
    special: bool


@dataclass(frozen=True)
class RowView:
    """``row`` is counted from 1."""

    row: int
    tokens: list[Token]

    @property
    def trained(self) -> int:
        return sum(token.trained for token in self.tokens)


def view_row(example: Example, tokenizer: PreTrainedTokenizerBase) -> RowView:
    """The tokens of a row. The first one is predicted from nothing, and so never trained."""
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
    """The text of each token; together they are the text of all.

    A token is decoded behind those before it: some tokenizers drop the space of the first one,
    and a character may be several tokens, of which the last one shows it.
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
