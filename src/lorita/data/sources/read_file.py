"""Read one data file of any type into a table in the cache.

A file is read again only if its bytes or the way of reading change. All problems found on the way
are reported together, each with its line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorita.data.origin import Part
from lorita.data.sources.csv_files import csv_batches
from lorita.data.sources.file_table import FileProblems, FileRows, TooManyProblems
from lorita.data.sources.json_files import json_batches
from lorita.data.sources.open_file import DataFile, FileProblem, check_unpacked, no_utf8
from lorita.data.sources.parquet_files import read_parquet
from lorita.data.sources.saved_datasets import read_arrow
from lorita.data.sources.sheet_files import sheet_batches
from lorita.data.sources.table_batches import TableBatches
from lorita.data.sources.table_cache import key_of, stored
from lorita.data.sources.text_files import text_batches, usual_unit
from lorita.errors import DataError

WITH_PARTS = ("json", "sheet")
"""Types of files that can hold several tables."""


@dataclass(frozen=True)
class How:
    """What the user said about the files.

    ``text_unit`` is what a row of a text file is. ``part`` is the list of a JSON file or the sheet
    of a workbook to read; ``split`` the one to take where they are named after splits.
    """

    text_unit: str | None = None
    part: str | None = None
    split: str = "train"


def read_file(file: DataFile, how: How, json_columns: frozenset[str]) -> FileRows:
    """All rows of a file; ``json_columns`` are kept as JSON even if they hold only text.

    Raises ``DataError`` with all problems found.
    """
    try:
        if how.part is not None and file.kind not in WITH_PARTS:
            raise FileProblem(f"has no part named {how.part!r}; omit --data-name")
        if file.kind in ("parquet", "arrow"):
            return read_parquet(file) if file.kind == "parquet" else read_arrow(file)
        unit = how.text_unit or usual_unit(file.kind)
        forced = sorted(json_columns)
        asked = (unit, how.part, how.split, forced)
        key = key_of("rows", file.digest(), file.kind, file.packing, *asked)
        table, stored_notes = stored(key, lambda: _write(file, how, forced))
    except UnicodeDecodeError as error:
        raise DataError(f"{file.name}: {no_utf8(file, error)}") from None
    except FileProblem as problem:
        raise DataError(f"{file.name}: {problem}") from None
    except OSError as error:
        raise DataError(f"{file.name}: cannot be read ({error.strerror or error})") from None
    part = Part(file.name, len(table), stored_notes.get("lines"))
    said = [*filter(None, [file.note]), *stored_notes["notes"]]
    notes = tuple(f"{file.name}: {note}" for note in said)
    return FileRows(table, part, frozenset(stored_notes["json_columns"]), notes)


def _write(file: DataFile, how: How, forced: Sequence[str]) -> TableBatches:
    """The batches of a CSV, JSON or text file, or one ``DataError`` with its problems."""
    problems = FileProblems()
    try:
        check_unpacked(file)
        if file.kind in ("csv", "tsv"):
            notes = yield from csv_batches(file, problems)
        elif file.kind == "sheet":
            notes = yield from sheet_batches(file, problems, how.part)
        elif file.kind == "json":
            notes = yield from json_batches(file, forced, problems, how.part, how.split)
        else:
            notes = yield from text_batches(file, how.text_unit or usual_unit(file.kind))
    except TooManyProblems:
        problems[-1:] = ["and more problems like these"]
    except FileProblem as problem:
        problems += [str(problem)]
    if problems:
        raise DataError([f"{file.name}: {problem}" for problem in problems])
    return notes
