"""Texts to token ids, with the targets marked.

The end-of-text token ends every row that was not cut, and is a target: a model that never sees
it as one never learns to stop. Padding does not exist here; it is made, where a model needs it,
when rows are put side by side (``batches.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorita.data.formats import rows_text
from lorita.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE = -100
"""The label of a token that is no target, as in torch and transformers."""


@dataclass(frozen=True)
class Example:
    """One row: ``input_ids`` and, aligned with them, ``labels`` (an id, or ``IGNORE``).

    ``row`` is its number in the data, counted from 0.
    """

    input_ids: list[int]
    labels: list[int]
    row: int

    @property
    def num_targets(self) -> int:
        """Tokens that are predicted: the first one never is."""
        return sum(label != IGNORE for label in self.labels[1:])


@dataclass(frozen=True)
class Tokenized:
    """All rows as tokens, and how many of them were cut."""

    examples: list[Example]
    rows_cut: int
    tokens_cut: int


def tokenize_texts(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    rows: Sequence[int] | None = None,
) -> Tokenized:
    """Every token of every text, then the end-of-text token; longer rows are cut at ``max_length``.

    Special tokens at the front are those that the tokenizer itself adds, so that training sees
    what generation will see. ``rows`` are the texts' numbers in the data, 0, 1, 2, … by default.
    Raises ``DataError`` for rows with nothing to predict.
    """
    encoded = tokenizer(list(texts), add_special_tokens=True, return_attention_mask=False)
    eos = tokenizer.eos_token_id
    examples = []
    rows_cut = tokens_cut = 0
    numbers = range(len(texts)) if rows is None else rows
    for row, ids in zip(numbers, encoded["input_ids"], strict=True):
        full = list(ids) if ids and ids[-1] == eos else [*ids, eos]
        kept = full[:max_length]
        rows_cut += len(kept) < len(full)
        tokens_cut += len(full) - len(kept)
        examples.append(Example(kept, list(kept), row))
    barren = [example.row + 1 for example in examples if len(example.input_ids) < 2]
    if barren:
        raise DataError(f"{rows_text(barren)}: nothing is left to predict after tokenising")
    return Tokenized(examples, rows_cut, tokens_cut)
