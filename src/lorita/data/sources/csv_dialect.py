"""How a CSV file separates and quotes its cells, detected from its lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lorita.data.sources.open_file import LONGEST_ROW

DELIMITERS = (",", "\t", ";", "|")
NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
LONGEST_NAME = 128
"""Characters of a column name; a longer one is a data row where the header should be."""
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""A first line that tells Excel the delimiter; it is no row."""


@dataclass(frozen=True)
class Dialect:
    """How cells are separated and quoted. ``str()`` describes it for messages.

    Without a ``quote``, quotes are characters like others; ``spaced`` cells are quoted after a
    space.
    """

    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    spaced: bool = False

    def reader(self, lines: Iterator[str]) -> Any:
        """A strict ``csv.reader`` over ``lines``; broken quoting raises ``csv.Error``."""
        csv.field_size_limit(LONGEST_ROW)
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote,
            quoting=csv.QUOTE_NONE if self.quote is None else csv.QUOTE_MINIMAL,
            escapechar=self.escape,
            doublequote=self.escape is None,
            skipinitialspace=self.spaced,
            strict=True,
        )

    def __str__(self) -> str:
        words = [f"{NAMES[self.delimiter]}-separated"]
        words += ["quoted with '"] if self.quote == "'" else []
        words += ["quotes are part of the text"] if self.quote is None else []
        words += ["quotes escaped with \\"] if self.escape else []
        words += ["spaces before cells skipped"] if self.spaced else []
        return ", ".join(words)


def find_dialect(sample: Sequence[str], usual: str = ",", *, others: bool = True) -> Dialect:
    """The dialect in which the most rows of the sample are as wide as its header.

    A tie goes to the ``usual`` delimiter, the only one without ``others``. If none divides the
    header, there is a single column. Whether quotes quote is decided later, from all lines
    (``quotes_are_text``).
    """
    ordered = [usual, *(other for other in DELIMITERS if others and other != usual)]
    best, best_score = Dialect(usual), 0.0
    escapes = (None, "\\") if any('\\"' in line or "\\'" in line for line in sample) else (None,)
    for delimiter in ordered:
        for escape in escapes:
            dialect = Dialect(delimiter, _quote(sample, delimiter), escape)
            score = _even_rows(sample, dialect)
            if score > best_score:
                best, best_score = dialect, score
    if _quotes_after_spaces(sample, best) and _even_rows(sample, replace(best, spaced=True)) == 1:
        return replace(best, spaced=True)
    if best_score < 1:  # stray quotes, perhaps
        even = (Dialect(d, _quote(sample, d)) for d in ordered if _even_lines(sample, d))
        return next(even, best)
    return best


def _quotes_after_spaces(sample: Sequence[str], dialect: Dialect) -> bool:
    """Whether quotes open after a delimiter and a space, and close before the next one."""
    mark, quote = re.escape(dialect.delimiter), dialect.quote or '"'
    opens = re.compile(rf"(?:^|{mark}) +{quote}[^{quote}]*{quote}\s*(?:{mark}|$)")
    return dialect.delimiter != "\t" and any(opens.search(line) for line in sample)


def quotes_are_text(lines: Iterable[str], again: Iterator[str], dialect: Dialect) -> bool:
    """Whether quotes are characters of the text: stray ones, which would join rows or break them.

    So it is if every line has the header's width without quoting, nothing was quoted on purpose,
    and with quoting a row is broken or reaches over several lines. ``again`` are the same lines.
    """
    quote = dialect.quote or '"'
    if dialect.escape is not None or not _all_even(lines, dialect.delimiter, quote):
        return False
    reader = dialect.reader(again)
    joined, end = False, 0
    try:
        for fields in reader:
            joined = joined or (len(fields) > 1 and reader.line_num > end + 1)
            end = reader.line_num
    except csv.Error:
        return True
    return joined


def _all_even(lines: Iterable[str], delimiter: str, quote: str) -> bool:
    """Whether each line is as wide as the first without quoting, and none shows real quoting.

    Real are a quoted header, a column whose cells are all quoted, and escaped or doubled quotes
    inside a quoted cell. A cell that begins with a space, as after a comma in a sentence, is likely
    the rest of a quoted one.
    """
    doubled = re.compile(rf"(?:^|{re.escape(delimiter)}){quote}[^{quote}]*{quote}{quote}[^{quote}]")
    rows = (row for line in lines if (row := line.rstrip("\r\n")))
    header = next(rows, "")
    width, spaced = header.count(delimiter), f"{delimiter} " in header
    if not width or header.startswith(quote):
        return False
    found = False
    quoted = set(range(width + 1))
    for row in rows:
        if row.count(delimiter) != width or (f"{delimiter} " in row and not spaced):
            return False
        if quote in row:
            found = True
            if doubled.search(row) or f"\\{quote}" in row:
                return False
        if quoted:
            cells = row.split(delimiter)
            quoted = {
                i for i in quoted if len(cells[i]) > 1 and cells[i][0] == cells[i][-1] == quote
            }
    return found and not quoted


def _quote(sample: Sequence[str], delimiter: str) -> str:
    names = [name.strip() for name in sample[0].split(delimiter)] if sample else []
    single = all(len(name) > 1 and name[0] == name[-1] == "'" for name in names)
    return "'" if names and single else '"'


def _even_lines(sample: Sequence[str], delimiter: str) -> bool:
    """Whether all lines have as many delimiters as the header, and at least one."""
    counts = {line.count(delimiter) for line in sample if line.strip()}
    return len(sample) > 1 and len(counts) == 1 and counts != {0}


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
