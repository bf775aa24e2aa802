"""Rows given in Python: lists of dicts and ``datasets.Dataset``."""

from __future__ import annotations

import json
from typing import Any

from lorita.data.origin import Origin, Part
from lorita.data.sources.source import Source
from lorita.errors import DataError


def rows_source(rows: Any, name: str) -> Source:
    """A list of dicts or a ``datasets.Dataset`` as a source called ``name``.

    Raises ``DataError`` if there are no rows, or if they do not form a table.
    """
    nested: frozenset[str] = frozenset()
    table = rows
    if isinstance(rows, (list, tuple)):
        table, nested = as_table(list(rows), name)
    if not len(table):
        raise DataError("data: contains no rows")
    return Source(table, Origin((Part(name, len(table)),)), nested)


def as_table(rows: list[dict[str, Any]], where: str) -> tuple[Any, frozenset[str]]:
    """Rows as a ``datasets.Dataset`` with the union of their keys as columns.

    The second part names the columns that hold JSON as text: those of lists and objects, whose
    parts may then be of any type in any row. ``where`` begins the message of the ``DataError`` that
    is raised if a column mixes types.
    """
    from datasets import Dataset

    columns = dict.fromkeys(key for row in rows for key in row)
    nested = frozenset(name for name in columns if _is_nested([row.get(name) for row in rows]))
    try:
        cells = [{name: _cell(row.get(name), name in nested) for name in columns} for row in rows]
        return Dataset.from_list(cells), nested
    except Exception as error:  # pyarrow raises many kinds
        raise DataError(
            f"{where}: the rows do not form a table ({str(error).splitlines()[0]})",
            hint="All values in a column must have one type: text, numbers or lists of messages.",
        ) from error


def _is_nested(cells: list[Any]) -> bool:
    """Whether a column holds lists or objects that JSON can express, and nothing else."""
    given = [cell for cell in cells if cell is not None]
    if not given or not all(isinstance(cell, (list, dict)) for cell in given):
        return False
    try:
        json.dumps(given)
    except (TypeError, ValueError):
        return False
    return True


def _cell(cell: Any, nested: bool) -> Any:
    return json.dumps(cell, ensure_ascii=False) if nested and cell is not None else cell
