"""What training sees of a row: token ids, with the targets marked."""

from __future__ import annotations

from dataclasses import dataclass

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
    """All rows as tokens, and what became of those that were too long.

    ``targets_cut`` counts the trained tokens among ``tokens_cut``; the tokens of rows that were
    dropped are in both.
    """

    examples: list[Example]
    rows_cut: int
    tokens_cut: int
    targets_cut: int = 0
    rows_split: int = 0
    rows_dropped: int = 0
