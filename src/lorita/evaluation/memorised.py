"""What a model repeats of its training rows, word for word.

Two questions. Given the start of a training row, does greedy decoding go on exactly as the row
does? (Carlini et al., "Quantifying Memorization Across Neural Language Models", 2023.) And how
many runs of eight tokens in freely written answers stand verbatim in the training rows?
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from lorita.data.examples import IGNORE, Example
from lorita.evaluation.scores import Scores

ROWS = 32
"""Training rows that are looked at."""
MOST_TOKENS = 256
"""Of such a row."""
GIVEN, ASKED, FEWEST = 16, 32, 8
"""Tokens of a text that are given, that must follow exactly, and without which a row is not asked.
A row with a prompt of its own is given that prompt."""
RUN = 8


def sample_rows(examples: Sequence[Example], *, seed: int = 0) -> list[Example]:
    """Some training rows in their order, cut to a length that costs little."""
    drawn = random.Random(seed).sample(range(len(examples)), min(ROWS, len(examples)))
    rows = [examples[number] for number in sorted(drawn)]
    cut = [Example(r.input_ids[:MOST_TOKENS], r.labels[:MOST_TOKENS], r.row) for r in rows]
    return [row for row in cut if row.num_targets]


def extracted(examples: Sequence[Example], scores: Scores) -> tuple[int, int]:
    """(rows that greedy decoding continues word for word, rows that were long enough to ask).

    One forward pass tells it: greedy decoding takes exactly these tokens if each of them is the
    likeliest one after the true tokens before it.
    """
    asked = found = 0
    for example, hits in zip(examples, scores.row_hits(), strict=True):
        given = 0 if example.labels[0] == IGNORE else min(GIVEN, len(hits) // 2)
        window = hits[given : given + ASKED]
        if len(window) >= FEWEST:
            asked += 1
            found += all(window)
    return found, asked


def copied(answers: Iterable[Sequence[int]], examples: Sequence[Example]) -> tuple[int, int]:
    """(different runs of ``RUN`` tokens in the answers that stand in the rows, all of them)."""
    written = {run for ids in answers for run in _runs(ids)}
    found = {run for example in examples for run in _runs(example.input_ids) if run in written}
    return len(found), len(written)


def _runs(ids: Sequence[int]) -> Iterable[tuple[int, ...]]:
    return (tuple(ids[start : start + RUN]) for start in range(len(ids) - RUN + 1))
