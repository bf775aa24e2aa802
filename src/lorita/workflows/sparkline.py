"""A curve in one line of text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

LEVELS = "▁▂▃▄▅▆▇█"
WIDTH = 12
"""Columns of a curve."""


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """The values from first to last in at most ``width`` columns, each the mean of neighbours.

    The lowest column is the lowest mean, the highest the highest; empty for less than two values.
    """
    if len(values) < 2:
        return ""
    columns = min(width, len(values))
    edges = [i * len(values) // columns for i in range(columns + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    if high <= low:
        return LEVELS[0] * columns
    top = len(LEVELS) - 1
    return "".join(LEVELS[round(top * (mean - low) / (high - low))] for mean in means)
