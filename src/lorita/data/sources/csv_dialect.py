"""How a CSV file separates and quotes its cells, detected from its first lines."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lorita.data.sources.open_file import LONGEST_ROW

DELIMITERS = (",", "\t", ";", "|")
NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
LONGEST_NAME = 128
"""Characters of a column name; a longer one is a data row where the header should be."""


@dataclass(frozen=True)
class Dialect:
    """How cells are separated and quoted. ``str()`` describes it for messages."""

    delimiter: str = ","
    quote: str = '"'
    escape: str | None = None

    def reader(self, lines: Iterator[str]) -> Any:
        """A strict ``csv.reader`` over ``lines``; broken quoting raises ``csv.Error``."""
        csv.field_size_limit(LONGEST_ROW)
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote,
            escapechar=self.escape,
            doublequote=self.escape is None,
            strict=True,
        )

    def __str__(self) -> str:
        words = [f"{NAMES[self.delimiter]}-separated"]
        words += ["quoted with '"] if self.quote == "'" else []
        words += ["quotes escaped with \\"] if self.escape else []
        return ", ".join(words)


def find_dialect(sample: Sequence[str], usual: str = ",") -> Dialect:
    """The dialect in which the most rows of the sample are as wide as its header.

    A tie goes to the ``usual`` delimiter. If none divides the header, there is a single column.
    """
    ordered = [usual, *(other for other in DELIMITERS if other != usual)]
    best, best_score = Dialect(usual), 0.0
    escapes = (None, "\\") if any('\\"' in line or "\\'" in line for line in sample) else (None,)
    for delimiter in ordered:
        for escape in escapes:
            dialect = Dialect(delimiter, _quote(sample, delimiter), escape)
            score = _even_rows(sample, dialect)
            if score > best_score:
                best, best_score = dialect, score
    return best


def _quote(sample: Sequence[str], delimiter: str) -> str:
    names = [name.strip() for name in sample[0].split(delimiter)] if sample else []
    single = all(len(name) > 1 and name[0] == name[-1] == "'" for name in names)
    return "'" if names and single else '"'


def _even_rows(sample: Sequence[str], dialect: Dialect) -> float:
    """The share of sample rows as wide as the header; 0 if the header has one column."""
    even = rows = 0
    reader = dialect.reader(iter(sample))
    try:
        width = len(next(reader, []))
        if width < 2:
            return 0.0
        for fields in reader:
            rows += bool(fields)
            even += len(fields) == width
    except csv.Error as error:
        # The sample may end inside a quoted cell.
        rows += "unexpected end" not in str(error)
    return (even + 1) / (rows + 1)
