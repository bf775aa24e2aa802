"""How long rows are: a histogram with round bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BINS = 10


@dataclass(frozen=True)
class Bin:
    """The number of rows with ``start`` to ``end`` tokens."""

    start: int
    end: int
    rows: int


def histogram(lengths: Sequence[int]) -> list[Bin]:
    """At most ``BINS`` bins of equal, round width, from 0 to the longest row.

    Empty bins before the shortest row are left out.
    """
    longest = max(lengths, default=0)
    widths = (n * 10**power for power in range(9) for n in (1, 2, 5))
    width = next(width for width in widths if width * BINS > longest)
    counts = [0] * (longest // width + 1)
    for length in lengths:
        counts[length // width] += 1
    first = next((i for i, count in enumerate(counts) if count), 0)
    return [Bin(i * width, (i + 1) * width - 1, n) for i, n in enumerate(counts)][first:]
