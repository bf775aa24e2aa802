"""CSV and TSV: delimiter and quoting found out, every cell a text, every row as wide as the header.

Python's own reader in its strict mode: one that guesses on would fill short rows and turn ``1``
and ``NA`` into a number and a gap.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from lorita.data.sources.file_table import ONLY_HEADER, FileProblems, in_batches, text_batch
from lorita.data.sources.open_file import LONGEST_ROW, DataFile, FileProblem, lines_of, too_long
from lorita.data.sources.table_cache import Writing

DELIMITERS = (",", "\t", ";", "|")
NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
SAMPLE_LINES, SAMPLE_CHARACTERS = 200, 2**18
LONGEST_NAME = 128
"""Characters of a column's name; more is a row where the header should be."""


@dataclass(frozen=True)
class Dialect:
    """How the cells are divided and quoted."""

    delimiter: str = ","
    quote: str = '"'
    escape: str | None = None

    def reader(self, lines: Iterator[str]) -> Any:
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


class CsvRows:
    """The header, and the rows when iterated over; ``problems`` grows on the way."""

    def __init__(self, file: DataFile, problems: list[str]) -> None:
        self._lines = lines_of(file)
        start = _sample(self._lines)
        self.dialect = find_dialect(start, "\t" if file.kind == "tsv" else ",")
        self._reader = self.dialect.reader(chain(start, self._lines))
        self._problems = problems
        try:
            header: list[str] = next(self._reader, [])
        except csv.Error as error:
            raise FileProblem(self._broken(1, error)) from None
        self.columns = [name.strip() or f"Unnamed: {i}" for i, name in enumerate(header)]
        self._check_header()

    def _check_header(self) -> None:
        doubled = sorted({name for name in self.columns if self.columns.count(name) > 1})
        if doubled:
            raise FileProblem(f"line 1: the column names {', '.join(doubled)} stand there twice")
        if any(len(name) > LONGEST_NAME or "\n" in name for name in self.columns):
            raise FileProblem(
                "line 1: this is a row, not the names of the columns; put a header above it"
            )

    def __iter__(self) -> Iterator[list[str]]:
        width, start = len(self.columns), self._reader.line_num + 1
        try:
            for fields in self._reader:
                if fields and len(fields) != width:
                    self._problems.append(
                        f"line {start}: {len(fields)} fields, the header has {width} "
                        f"({', '.join(self.columns)}); quote texts with a "
                        f"{NAMES[self.dialect.delimiter]} in them"
                    )
                elif fields:
                    yield fields
                start = self._reader.line_num + 1
        except csv.Error as error:
            self._problems.append(self._broken(start, error))

    def _broken(self, start: int, error: csv.Error) -> str:
        if "field larger" in str(error):
            return too_long(f"line {start}: a cell")
        if "unexpected end" in str(error):
            return f"line {start}: a quote that opens there is never closed"
        end = self._reader.line_num
        return f"line {start}{f' to {end}' if end > start else ''}: broken quoting ({error})"


def _sample(lines: Iterator[str]) -> list[str]:
    """The first lines, to find the dialect from; they are read again with the rest."""
    sample: list[str] = []
    size = 0
    for line in islice(lines, SAMPLE_LINES):
        sample.append(line)
        size += len(line)
        if size > SAMPLE_CHARACTERS:
            break
    return sample


def find_dialect(sample: Sequence[str], usual: str = ",") -> Dialect:
    """The dialect in which the most rows of the sample are as wide as its header.

    Of several, the usual delimiter; where none divides the header, there is a single column.
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
    """The share of the sample's rows with as many fields as the header; 0 for a header of one."""
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
        # The sample may end within a quoted cell.
        rows += "unexpected end" not in str(error)
    return (even + 1) / (rows + 1)


def csv_batches(file: DataFile, problems: FileProblems) -> Writing:
    rows = CsvRows(file, problems)
    count = 0
    for batch in in_batches(rows):
        count += len(batch)
        yield text_batch(rows.columns, zip(*batch, strict=True))
    if not count and not problems:
        raise FileProblem(ONLY_HEADER)
    usual = "tab" if file.kind == "tsv" else "comma"
    said = str(rows.dialect)
    return {"json_columns": [], "notes": [] if said == f"{usual}-separated" else [said]}
