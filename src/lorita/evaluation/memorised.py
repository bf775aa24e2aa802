"""What a model repeats verbatim from its training rows.

Two measurements. Extraction: given the start of a training row, does greedy decoding complete it
verbatim? (Carlini et al., "Quantifying Memorization Across Neural Language Models", 2023.) Copying:
how many of the eight-token sequences in freely written answers occur in the training rows?
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lorita.data.examples import IGNORE, Example

if TYPE_CHECKING:
    from lorita.evaluation.scores import Scores

ROWS = 32
"""Training rows that are tested."""
MOST_TOKENS = 256
"""Tokens of a row that are looked at."""
GIVEN, ASKED, FEWEST = 16, 32, 8
"""Tokens of a text that are given; that must follow exactly; below which a row is too short to
test. Where a row has a prompt, the prompt is given instead."""
RUN = 8
"""Tokens of a sequence that counts as copied."""


def sample_rows(examples: Sequence[Example], *, seed: int = 0) -> list[Example]:
    """A random sample of training rows, in their order, cut to ``MOST_TOKENS`` each."""
    drawn = random.Random(seed).sample(range(len(examples)), min(ROWS, len(examples)))
    rows = [examples[number] for number in sorted(drawn)]
    cut = [Example(r.input_ids[:MOST_TOKENS], r.labels[:MOST_TOKENS], r.row) for r in rows]
    return [row for row in cut if row.num_targets]


def extracted(examples: Sequence[Example], scores: Scores) -> tuple[int, int]:
    """(rows that greedy decoding completes verbatim, rows that are long enough to test).

    One forward pass is enough: greedy decoding produces exactly these tokens if each of them is
    the likeliest token after the true tokens before it.
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
    """(how many of them occur in the rows, how many there are): ``RUN``-token sequences in answers.

    Each distinct sequence counts once.
    """
    written = {run for ids in answers for run in _runs(ids)}
    found = {run for example in examples for run in _runs(example.input_ids) if run in written}
    return len(found), len(written)


def _runs(ids: Sequence[int]) -> Iterable[tuple[int, ...]]:
    return (tuple(ids[start : start + RUN]) for start in range(len(ids) - RUN + 1))
