"""Rows given in Python: lists of dicts and ``datasets.Dataset``."""

from __future__ import annotations

from typing import Any

from lorita.data.origin import Origin, Part
from lorita.data.sources.source import Source
from lorita.errors import DataError


def rows_source(rows: Any, name: str) -> Source:
    """A list of dicts or a ``datasets.Dataset`` as a source called ``name``.

    Raises ``DataError`` if there are no rows, or if they do not form a table.
    """
    table = as_table(list(rows), name) if isinstance(rows, (list, tuple)) else rows
    if not len(table):
        raise DataError("data: contains no rows")
    return Source(table, Origin((Part(name, len(table)),)))


def as_table(rows: list[dict[str, Any]], where: str) -> Any:
    """Rows as a ``datasets.Dataset`` with the union of their keys as columns.

    ``where`` begins the message of the ``DataError`` that is raised if a column mixes types.
    """
    from datasets import Dataset

    columns = dict.fromkeys(key for row in rows for key in row)
    try:
        return Dataset.from_list([{name: row.get(name) for name in columns} for row in rows])
    except Exception as error:  # pyarrow raises many kinds
        raise DataError(
            f"{where}: the rows do not form a table ({str(error).splitlines()[0]})",
            hint="All values in a column must have one type: text, numbers or lists of messages.",
        ) from error
