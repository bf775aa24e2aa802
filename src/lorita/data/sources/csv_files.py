"""CSV and TSV: every cell a text, every row as wide as the header.

Python's own reader in its strict mode: a lenient one would pad short rows and turn ``1`` and
``NA`` into a number and a gap.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice

from lorita.data.sources.column_names import check_columns, check_count, named
from lorita.data.sources.csv_dialect import (
    LONGEST_NAME,
    NAMES,
    SEPARATOR_LINE,
    Dialect,
    find_dialect,
    quotes_are_text,
)
from lorita.data.sources.file_table import FileProblems
from lorita.data.sources.open_file import DataFile, FileProblem, lines_of, too_long
from lorita.data.sources.table_batches import TableBatches, in_batches, text_batch

SAMPLE_LINES, SAMPLE_CHARACTERS = 200, 2**18


class CsvRows:
    """The header, and the rows when iterated; each bad row is appended to ``problems``."""

    def __init__(self, file: DataFile, problems: list[str]) -> None:
        lines = lines_of(file)
        start = _sample(lines)
        told = SEPARATOR_LINE.fullmatch(start[0]) if start else None
        self._above = 0 if told is None else 1  # lines above the header
        while start[self._above :] and not start[self._above].strip(" \r\n"):
            self._above += 1
        start = start[self._above :]
        check_count(f"line {1 + self._above}", _most_cells(start))
        self.dialect = _told(told[1], start) if told else find_dialect(start, _usual(file))
        if quotes_are_text(self._lines(file), self._lines(file), self.dialect):
            self.dialect = replace(self.dialect, quote=None)
        self._reader = self.dialect.reader(chain(start, lines))
        self._problems = problems
        try:
            header: list[str] = next(self._reader, [])
        except csv.Error as error:
            raise FileProblem(self._broken(1, error)) from None
        self.columns = [name.strip() or f"Unnamed: {i}" for i, name in enumerate(header)]
        self._check_header()

    def _lines(self, file: DataFile) -> Iterator[str]:
        """The lines from the header on, read once more."""
        return islice(lines_of(file), self._above, None)

    def _check_header(self) -> None:
        line = f"line {1 + self._above}"
        check_columns(line, self.columns)
        if any(len(name) > LONGEST_NAME or "\n" in name for name in self.columns):
            raise FileProblem(
                f"{line}: this is a data row, not column names; add a header line above it"
            )

    def __iter__(self) -> Iterator[list[str]]:
        width, start = len(self.columns), self._next_line
        try:
            for fields in self._reader:
                if fields and len(fields) != width:
                    self._problems.append(self._wrong_width(start, len(fields)))
                elif fields:
                    yield fields
                start = self._next_line
        except csv.Error as error:
            self._problems.append(self._broken(start, error))

    @property
    def _next_line(self) -> int:
        return int(self._reader.line_num) + self._above + 1

    def _wrong_width(self, start: int, found: int) -> str:
        fields = "1 field" if found == 1 else f"{found} fields"
        return (
            f"line {start}: {fields}, but the header has {len(self.columns)} "
            f"({named(self.columns)}); quote any text that contains a "
            f"{NAMES[self.dialect.delimiter]}"
        )

    def _broken(self, start: int, error: csv.Error) -> str:
        if "field larger" in str(error):
            return too_long(f"line {start}: a cell")
        if "unexpected end" in str(error):
            return f"line {start}: a quote that opens here is never closed"
        end = self._next_line - 1
        return f"line {start}{f' to {end}' if end > start else ''}: broken quoting ({error})"


def _most_cells(start: list[str]) -> int:
    """Cells of the header, whatever separates them."""
    return 1 + max(start[0].count(mark) for mark in NAMES) if start else 0


def _usual(file: DataFile) -> str:
    return "\t" if file.kind == "tsv" else ","


def _told(delimiter: str, lines: list[str]) -> Dialect:
    """The dialect with the delimiter that the line ``sep=`` names."""
    if delimiter not in NAMES:
        raise FileProblem(
            f"line 1: sep={delimiter}: lorita reads files separated by {', '.join(NAMES.values())}"
        )
    return find_dialect(lines, delimiter, others=False)


def _sample(lines: Iterator[str]) -> list[str]:
    """The first lines, for detecting the dialect; the caller reads them again with the rest."""
    sample: list[str] = []
    size = 0
    for line in islice(lines, SAMPLE_LINES):
        sample.append(line)
        size += len(line)
        if size > SAMPLE_CHARACTERS:
            break
    return sample


def csv_batches(file: DataFile, problems: FileProblems) -> TableBatches:
    """The rows of a CSV or TSV file as batches of strings.

    Bad rows are appended to ``problems``; raises ``FileProblem`` if there is only a header.
    """
    rows = CsvRows(file, problems)
    count = 0
    for batch in in_batches(rows):
        count += len(batch)
        yield text_batch(rows.columns, zip(*batch, strict=True))
    if not count and not problems:
        raise FileProblem("the file has a header but no rows")
    usual = NAMES[_usual(file)]
    dialect = str(rows.dialect)
    return {"json_columns": [], "notes": [] if dialect == f"{usual}-separated" else [dialect]}
