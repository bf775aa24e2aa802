"""Where rows come from: files, folders, patterns, standard input, or data sets of the hub.

What the user names becomes parts, each a table in the cache; files are read by ``file_rows.py``,
data sets by ``datasets``. What the columns mean is decided in ``formats.py``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

from lorita.data.origin import Origin
from lorita.data.sources.file_table import FileRows
from lorita.data.sources.find_files import find_data
from lorita.data.sources.hub_datasets import read_hub
from lorita.data.sources.open_file import DataFile
from lorita.data.sources.read_file import read_file
from lorita.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

SAMPLE = 20
"""Rows that are looked at to tell what a column holds."""


@dataclass(frozen=True)
class Source:
    """A table of rows, and where they come from. ``json_columns`` hold JSON as text."""

    rows: Dataset
    origin: Origin
    json_columns: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        return list(self.rows.column_names)

    @cached_property
    def sample(self) -> dict[str, list[Any]]:
        """The first rows, column by column."""
        return self.cells(range(min(SAMPLE, len(self.rows))))

    def cells(self, numbers: Sequence[int]) -> dict[str, list[Any]]:
        """The rows with these numbers, column by column, in this order."""
        asked = numbers if isinstance(numbers, range) else list(numbers)
        cells: dict[str, list[Any]] = dict(self.rows[asked])
        for name in self.json_columns & cells.keys():
            cells[name] = [None if cell is None else json.loads(cell) for cell in cells[name]]
        return cells

    def only(self, columns: Sequence[str]) -> Source:
        """The same rows with some of their columns: others need not be read."""
        return replace(self, rows=self.rows.select_columns(list(dict.fromkeys(columns))))


def load_source(
    data: str | Sequence[str],
    *,
    name: str | None = None,
    split: str = "train",
    revision: str | None = None,
    text_unit: str | None = None,
    file_type: str | None = None,
    streaming: int | None = None,
) -> Source:
    """All rows of what is named: files, folders, patterns, ``-`` for standard input, hub data sets.

    ``name``, ``split`` and ``revision`` are for hub data sets; of a folder whose files are named
    after splits, ``split`` is taken. ``text_unit`` is ``line``, ``paragraph`` or ``file``.
    ``file_type`` is a value of ``opening.KINDS``, for names that do not say it. ``streaming`` reads
    only so many rows of a hub data set, without downloading the rest.

    Raises ``DataError`` that lists what is wrong with every file.
    """
    items = [data] if isinstance(data, str) else list(data)
    found = find_data(items, split=split, file_type=file_type)

    if streaming is not None and (found.files or not found.hub):
        found.clean()
        raise DataError(
            "streaming is for hub data sets alone; files are on this machine already",
            hint="Leave --streaming out: rows of files are read from disk as they are needed.",
        )
    try:
        parts = _read_files(found.files, text_unit)
    finally:
        found.clean()
    parts += [read_hub(item, name, split, revision, streaming) for item in found.hub]
    return _together(parts, found.notes)


def _read_files(files: Sequence[DataFile], text_unit: str | None) -> list[FileRows]:
    """All files; a column that is JSON in one of them is kept as JSON in all."""
    parts = _read_each(files, text_unit, frozenset())
    mixed = frozenset(chain.from_iterable(part.json_columns for part in parts))
    if all(part.json_columns == mixed for part in parts):
        return parts
    return _read_each(files, text_unit, mixed)


def _read_each(
    files: Sequence[DataFile], text_unit: str | None, json_columns: frozenset[str]
) -> list[FileRows]:
    parts: list[FileRows] = []
    problems: list[str] = []
    for file in files:
        try:
            parts.append(read_file(file, text_unit, json_columns))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return parts


def _together(parts: Sequence[FileRows], said: Sequence[str]) -> Source:
    from datasets import concatenate_datasets

    first = parts[0]
    columns = first.table.column_names
    tables = []
    for part in parts:
        if set(part.table.column_names) != set(columns):
            raise _other_columns(part, first)
        tables.append(part.table.select_columns(columns))
    try:
        rows = tables[0] if len(tables) == 1 else concatenate_datasets(tables)
    except (ValueError, TypeError) as error:  # the same names with other types in them
        origin = Origin(tuple(part.part for part in parts))
        raise DataError(
            f"{origin}: their columns hold different things ({str(error).splitlines()[0]})",
            hint="Files of one data set need the same columns.",
        ) from error
    notes = [*said, *chain.from_iterable(part.notes for part in parts)]
    origin = Origin(tuple(part.part for part in parts))
    return Source(rows, origin, first.json_columns, tuple(notes))


def _other_columns(part: FileRows, first: FileRows) -> DataError:
    return DataError(
        f"{part.part.name}: its columns are {', '.join(part.table.column_names)}, "
        f"those of {first.part.name} are {', '.join(first.table.column_names)}",
        hint="Files of one data set need the same columns.",
    )
