"""Rows given in Python: lists of dicts, columns, and the tables of other libraries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lorita.data.origin import Origin, Part
from lorita.data.sources.source import Source
from lorita.errors import DataError


def rows_source(rows: Any, name: str, split: str = "train") -> Source:
    """Rows as a source called ``name``.

    They are a list of dicts or of chats, a dict of columns, a ``datasets.Dataset`` or the ``split``
    of a ``DatasetDict``, or a table of pandas, polars or pyarrow. Raises ``DataError`` if they are
    something else, if there are none, or if they do not form a table.
    """
    table, nested = _table(rows, name, split)
    if not len(table):
        raise DataError("data: contains no rows")
    return Source(table, Origin((Part(name, len(table)),)), nested)


def _table(rows: Any, name: str, split: str) -> tuple[Any, frozenset[str]]:
    """The rows as a table, and its columns that hold JSON as text."""
    from datasets import Dataset, DatasetDict

    if isinstance(rows, Dataset):
        return rows, frozenset()
    if isinstance(rows, DatasetDict):
        if split not in rows:
            raise DataError(f"data: no split {split!r} (found: {', '.join(map(str, rows))})")
        return rows[split], frozenset()
    if isinstance(rows, (list, tuple)):
        dicts = [{"messages": row} if isinstance(row, (list, tuple)) else row for row in rows]
        for number, row in enumerate(dicts, 1):
            if not isinstance(row, Mapping):
                raise DataError(f"data: row {number} is a {type(row).__name__}; expected a dict")
        return as_table(dicts, name)
    try:
        return _converted(rows), frozenset()
    except DataError:
        raise
    except Exception as error:  # each library has its own
        raise _no_table(name, error) from error


def _converted(rows: Any) -> Any:
    """The table of another library, told by its methods: none of them needs to be installed."""
    import pyarrow as pa
    from datasets import Dataset

    if isinstance(rows, Mapping):
        return Dataset.from_dict(dict(rows))
    if isinstance(rows, pa.Table):
        return Dataset(rows)
    if hasattr(rows, "to_arrow"):  # polars
        return Dataset(rows.to_arrow())
    if hasattr(rows, "iloc"):  # pandas
        return Dataset.from_pandas(rows, preserve_index=False)
    raise DataError(
        f"data: rows cannot be read from an object of type {type(rows).__name__}",
        hint="Give a list of dicts, a datasets.Dataset, or a DataFrame.",
    )


def as_table(rows: Sequence[Mapping[str, Any]], where: str) -> tuple[Any, frozenset[str]]:
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
        raise _no_table(where, error) from error


def _no_table(where: str, error: Exception) -> DataError:
    return DataError(
        f"{where}: the rows do not form a table ({str(error).splitlines()[0]})",
        hint="All values in a column must have one type: text, numbers or lists of messages.",
    )


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
