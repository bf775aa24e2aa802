"""What reading one file produces: its table, how it was read, and the problems found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorita.data.origin import Part

if TYPE_CHECKING:
    from datasets import Dataset

    from lorita.data.sources.arrow_table import ArrowTable

MOST_PROBLEMS = 5
"""Problems listed per file; a file with one wrong line often has thousands."""
MOST_LINES = 10**6
"""Line numbers are kept, for messages, for at most this many rows of a text file."""


@dataclass(frozen=True)
class FileRows:
    """The table of a file. ``json_columns`` hold JSON as text; ``notes`` say how it was read."""

    table: Dataset | ArrowTable
    part: Part
    json_columns: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


class TooManyProblems(Exception):
    """Raised to stop reading a file once ``MOST_PROBLEMS`` is exceeded."""


class FileProblems(list[str]):
    """The problems of one file; appending more than ``MOST_PROBLEMS`` stops the reading."""

    def append(self, problem: str) -> None:
        """Add a problem; raises ``TooManyProblems`` at the first one over the limit."""
        super().append(problem)
        if len(self) > MOST_PROBLEMS:
            raise TooManyProblems
