"""How long to train and in what steps, where nobody has said: rules that follow from the rows.

All their numbers are here. They come from sweeps (``benchmarks/schedules.py``); ``docs/train.md``
shows the figures. The learning rate is the default of the option.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lorita.training.forecast import EVALUATION_COST

STEP_SIZES = ((100, 2), (500, 4))
"""Rows per step for fewer rows than this."""
LARGEST_STEP = 8
STEP_TOKENS = 4096
"""Rows so long that a step would have more tokens are trained fewer at a time."""
LEAST_STEPS = 10
"""With fewer, an adapter hardly changes: the rows are seen again, up to ``MOST_EPOCHS`` times."""
MOST_EPOCHS = 4

BETA2_HALF_LIFE = 500_000
"""Tokens after which AdamW has half forgotten a squared gradient (Marek et al., "Small Batch Size
Training for Language Models", 2025: beta2 that holds this constant suits every step size)."""
LEAST_BETA2, MOST_BETA2 = 0.95, 0.9999

MOST_EVALUATIONS, LEAST_EVALUATIONS = 10, 5
EVALUATION_SHARE = 0.1
"""Of the training time, for all evaluations together: so one costs at most 2 %."""
LEAST_WATCHED_STEPS = 20
PATIENCE = 3
"""Evaluations in a row without a lower held-out loss after which a run ends."""
PATIENCE_SHARE = 0.25
"""Of the steps: the same patience where evaluations follow closer upon each other."""


@dataclass(frozen=True)
class Schedule:
    """How many rows a step takes, and how often the rows are seen."""

    rows_per_step: int
    epochs: int


def schedule_for(rows: int, tokens: int, rows_per_step: float | None = None) -> Schedule:
    """A step takes 2 rows of fewer than 100, 4 of fewer than 500 and 8 of more, but rarely more
    than 4,096 tokens. The rows are seen once, or, where that makes fewer than ten steps, as often
    as makes ten, at most four times.

    ``rows_per_step`` is what somebody has chosen; the epochs then follow from it.
    """
    size = next((size for below, size in STEP_SIZES if rows < below), LARGEST_STEP)
    size = min(size, max(1, STEP_TOKENS * rows // max(tokens, 1)))
    steps = max(1, math.ceil(rows / (rows_per_step or size)))
    return Schedule(size, min(MOST_EPOCHS, math.ceil(LEAST_STEPS / steps)))


def beta2_for(tokens_per_step: float) -> float:
    """AdamW's beta2 that halves the memory of a gradient after ``BETA2_HALF_LIFE`` tokens.

    Within ``LEAST_BETA2`` and ``MOST_BETA2``, to five digits.
    """
    found = math.pow(0.5, tokens_per_step / BETA2_HALF_LIFE)
    return round(min(max(found, LEAST_BETA2), MOST_BETA2), 5)


def evaluation_steps(steps: int, tokens: int, held_out_tokens: int) -> int | None:
    """After how many steps to measure the held-out loss, to end a run when it stops falling.

    None where there are too few steps, or where that costs too much: ``tokens`` are those of the
    whole training, ``held_out_tokens`` those of one evaluation, in every process.
    """
    if steps < LEAST_WATCHED_STEPS or not held_out_tokens:
        return None
    affordable = EVALUATION_SHARE * tokens / (EVALUATION_COST * held_out_tokens)
    count = min(MOST_EVALUATIONS, int(affordable))
    return math.ceil(steps / count) if count >= LEAST_EVALUATIONS else None


def patience_for(steps: int, eval_steps: int) -> int:
    """Evaluations without a better loss to wait for: ``PATIENCE``, more where they are frequent."""
    return max(PATIENCE, math.ceil(PATIENCE_SHARE * steps / eval_steps))
