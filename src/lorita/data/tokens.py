"""Rows to the examples that training sees: encoded, fitted to ``max_length``, checked.

The end-of-text token ends every row that was not cut, and is a target: a model that never sees
it as one never learns to stop. Padding does not exist here; it is made, where a model needs it,
when rows are put side by side (``batches.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorita.data.encode import Encoded, Encoder
from lorita.data.examples import IGNORE, Example, Tokenized
from lorita.data.overflow import fit_rows
from lorita.data.rows import Chat, Pair, Row, Text, as_chat, rows_text
from lorita.data.template import ChatTemplate
from lorita.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["IGNORE", "Example", "Tokenized", "Treatment", "tokenize_rows", "tokenize_texts"]


@dataclass(frozen=True)
class Treatment:
    """How rows become tokens: their template, what is trained, what happens to long ones.

    ``train_on`` is ``completion``, ``assistant`` or ``all``; None trains answers where there are
    any, else everything.
    """

    max_length: int
    template: ChatTemplate | None = None
    train_on: str | None = None
    overflow: str = "truncate"


def tokenize_rows(
    rows: Sequence[Row],
    numbers: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    how: Treatment,
    *,
    origin: str,
) -> Tokenized:
    """All rows as examples; ``numbers`` are their places in the data, counted from 0.

    Raises ``DataError`` for rows that the template does not take, rows in which nothing is
    trained, and where no row is left.
    """
    encoder = Encoder(tokenizer)
    encoded = _encode(rows, numbers, encoder, how, origin)
    barren = [row.example.row + 1 for row in encoded if row.example.num_targets == 0]
    if barren:
        raise DataError(f"{origin}: {rows_text(barren)}: nothing is left to predict")
    result = fit_rows(encoded, max_length=how.max_length, overflow=how.overflow, bos=encoder.bos)
    if rows and not result.examples:
        raise DataError(
            f"{origin}: every row is longer than max_length ({how.max_length}) and was dropped",
            hint="Raise --max-length, or cut rows with --overflow truncate.",
        )
    return result


def _encode(
    rows: Sequence[Row], numbers: Sequence[int], encoder: Encoder, how: Treatment, origin: str
) -> list[Encoded]:
    texts = [row.text for row in rows if isinstance(row, Text)]
    if texts or not rows:
        if how.train_on in ("completion", "assistant"):
            raise DataError(
                f"{origin}: train_on {how.train_on}: the rows are plain text and have no answers",
                hint="Say which columns they are in: --prompt-field NAME --completion-field NAME.",
            )
        return encoder.texts(texts, numbers)
    pairs = [row for row in rows if isinstance(row, Pair)]
    if pairs and how.template is None:
        return encoder.pairs(pairs, numbers, train_prompt=how.train_on == "all")
    chats = [as_chat(row) if isinstance(row, Pair) else row for row in rows]
    assert how.template is not None, "chats always have a template"
    return encoder.chats(
        [chat for chat in chats if isinstance(chat, Chat)],
        numbers,
        how.template,
        train_on=how.train_on or "assistant",
        origin=origin,
    )


def tokenize_texts(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    rows: Sequence[int] | None = None,
) -> Tokenized:
    """Plain texts, each with its end-of-text token; longer ones are cut at ``max_length``.

    ``rows`` are the texts' numbers in the data, 0, 1, 2, … by default.
    """
    numbers = range(len(texts)) if rows is None else rows
    how = Treatment(max_length)
    return tokenize_rows([Text(text) for text in texts], numbers, tokenizer, how, origin="texts")
