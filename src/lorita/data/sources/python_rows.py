"""Rows and functions that come from Python: lists, ``datasets.Dataset``, and ``map_row``."""

from __future__ import annotations

from typing import Any

from lorita.data.origin import Origin, Part
from lorita.data.sources.source import Source
from lorita.errors import DataError


def rows_source(rows: Any, name: str) -> Source:
    """A list of dicts or a ``datasets.Dataset`` as a source. ``DataError`` for what is no table."""
    table = as_table(list(rows), name) if isinstance(rows, (list, tuple)) else rows
    if not len(table):
        raise DataError("data: there are no rows in it")
    return Source(table, Origin((Part(name, len(table)),)))


def as_table(rows: list[dict[str, Any]], where: str) -> Any:
    from datasets import Dataset

    columns = dict.fromkeys(key for row in rows for key in row)
    try:
        return Dataset.from_list([{name: row.get(name) for name in columns} for row in rows])
    except Exception as error:  # pyarrow has many words for it
        raise DataError(
            f"{where}: the rows make no table ({str(error).splitlines()[0]})",
            hint="A column needs one kind of values: texts, numbers, or lists of messages.",
        ) from error
