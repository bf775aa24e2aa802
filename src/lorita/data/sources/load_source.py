"""Load the rows the user named: files, folders, patterns, standard input, or hub data sets.

Each becomes a table in the cache; ``read_file`` reads files, ``hub_datasets`` the hub. What the
columns mean is decided later, in ``formats``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from lorita.data.origin import Origin
from lorita.data.sources.arrow_table import ArrowTable
from lorita.data.sources.file_table import FileRows
from lorita.data.sources.find_files import find_data
from lorita.data.sources.hub_datasets import read_hub
from lorita.data.sources.open_file import DataFile
from lorita.data.sources.read_file import How, read_file
from lorita.data.sources.saved_datasets import read_saved
from lorita.data.sources.source import Source
from lorita.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

SAME_COLUMNS = "Files of one data set need the same columns."


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
    """All rows of ``data``: files, folders, patterns, ``-`` for standard input, hub data sets.

    ``name``, ``split`` and ``revision`` select a hub data set. ``split`` also selects among the
    parts of a folder, file or saved data set that are named after splits, ``name`` among the
    subsets of a folder, the lists of a JSON file or the sheets of a workbook. ``text_unit`` is
    ``line``, ``paragraph`` or ``file``. ``file_type`` is a value of ``open_file.KINDS``, for names
    without a known ending. ``streaming`` reads only that many rows of a hub data set, without
    downloading the rest.

    Raises ``DataError`` listing the problems of every file.
    """
    items = [data] if isinstance(data, str) else list(data)
    found = find_data(items, split=split, file_type=file_type, name=name)

    if streaming is not None and (found.files or found.saved or not found.hub):
        found.clean()
        raise DataError(
            "streaming is only for hub data sets; these files are already on this machine",
            hint="Omit --streaming: rows of files are read from disk as needed.",
        )
    try:
        part = None if found.name_used or found.hub else name
        if part is not None and found.saved:
            raise DataError(f"{found.saved[0]}: a saved data set has no part named {name!r}")
        parts = _read_files(found.files, How(text_unit, part, split))
    finally:
        found.clean()
    parts += [read_hub(item, name, split, revision, streaming) for item in found.hub]
    parts += [read_saved(folder, split) for folder in found.saved]
    return _together(parts, found.notes)


def _read_files(files: Sequence[DataFile], how: How) -> list[FileRows]:
    """All files; a column that is JSON in one of them is kept as JSON in all."""
    parts = _read_each(files, how, frozenset())
    mixed = frozenset(chain.from_iterable(part.json_columns for part in parts))
    if all(part.json_columns == mixed for part in parts):
        return parts
    return _read_each(files, how, mixed)


def _read_each(files: Sequence[DataFile], how: How, json_columns: frozenset[str]) -> list[FileRows]:
    parts: list[FileRows] = []
    problems: list[str] = []
    for file in files:
        try:
            parts.append(read_file(file, how, json_columns))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return parts


def _together(parts: Sequence[FileRows], notes: Sequence[str]) -> Source:
    """One source from the tables of all parts, which must have the same columns."""
    first = parts[0]
    columns = first.table.column_names
    tables = []
    for part in parts:
        if set(part.table.column_names) != set(columns):
            raise _other_columns(part, first)
        tables.append(part.table.select_columns(columns))
    origin = Origin(tuple(part.part for part in parts))
    try:
        rows = tables[0] if len(tables) == 1 else _concatenated(tables)
    except (ValueError, TypeError) as error:  # the same names with different types
        raise DataError(
            f"{origin}: their columns have different types ({str(error).splitlines()[0]})",
            hint=SAME_COLUMNS,
        ) from error
    every_note = (*notes, *chain.from_iterable(part.notes for part in parts))
    return Source(rows, origin, first.json_columns, every_note)


def _other_columns(part: FileRows, first: FileRows) -> DataError:
    return DataError(
        f"{part.part.name}: its columns are {', '.join(part.table.column_names)}, "
        f"but those of {first.part.name} are {', '.join(first.table.column_names)}",
        hint=SAME_COLUMNS,
    )


def _concatenated(tables: Sequence[Dataset | ArrowTable]) -> Dataset:
    from datasets import concatenate_datasets

    whole = [table.as_dataset() if isinstance(table, ArrowTable) else table for table in tables]
    return concatenate_datasets(whole)
