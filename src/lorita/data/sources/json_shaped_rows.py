"""The rows of a JSON file whose shape is known (``json_shape``), one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from lorita.data.sources.json_outline import table_keys
from lorita.data.sources.json_shape import Shape
from lorita.data.sources.json_text import JsonText
from lorita.data.sources.open_file import FileProblem

Found: TypeAlias = tuple[Any, str, str]
"""A row, the words for its place, and its JSON text."""


def rows_in(text: JsonText, shape: Shape) -> Iterator[Found]:
    """Every row of the value that begins here; lists and objects one by one, columns at once.

    Raises ``FileProblem`` where the text is not valid JSON, or the parts do not fit together.
    """
    if shape.kind == "objects":
        return _objects(text)
    _descend(text, shape.path)
    if shape.kind == "list":
        return _list(text)
    if shape.kind == "ids":
        return _ids(text)
    if shape.kind == "row":
        return _one(text)
    value = text.whole()
    unpack = {"viewer": _viewer, "columns": _columns, "table": _table}[shape.kind]
    return ((row, f"row {i}", json.dumps(row)) for i, row in enumerate(unpack(value), 1))


def _descend(text: JsonText, path: Sequence[str]) -> None:
    """Move to the value at ``path`` in the object that begins here."""
    for wanted in path:
        for key in text.members():
            if key == wanted:
                break
            text.skip()


def _one(text: JsonText) -> Iterator[Found]:
    where = f"line {text.line}"
    row, raw = text.value(where)
    yield row, where, raw


def _objects(text: JsonText) -> Iterator[Found]:
    number = 0
    while text.next():
        number += 1
        where = f"row {number} (line {text.line})"
        row, raw = text.value(where)
        yield row, where, raw


def _list(text: JsonText) -> Iterator[Found]:
    for number in text.elements():
        where = f"row {number} (line {text.line})"
        row, raw = text.value(where)
        yield row, where, raw


def _ids(text: JsonText) -> Iterator[Found]:
    for key in text.members():
        where = f"{key!r} (line {text.line})"
        row, raw = text.value(where)
        yield row, where, raw


def _viewer(value: Mapping[str, Any]) -> Iterator[Any]:
    """The rows of the hub's viewer, which shortens long cells and says so."""
    for row in value["rows"]:
        cut = row.get("truncated_cells")
        if cut:
            cells = ", ".join(map(str, cut))
            raise FileProblem(
                f"row {row['row_idx'] + 1}: the hub's viewer has shortened {cells}; "
                "use the data set itself: --data OWNER/NAME"
            )
        yield row["row"]


def _columns(value: Mapping[str, Any]) -> Iterator[Any]:
    columns = {
        key: list(cells.values()) if isinstance(cells, Mapping) else cells
        for key, cells in value.items()
        if isinstance(cells, (Mapping, list))
    }
    for cells in zip(*columns.values(), strict=True):
        yield dict(zip(columns, cells, strict=True))


def _table(value: Mapping[str, Any]) -> Iterator[Any]:
    names_key, cells_key = table_keys(value) or ("", "")
    names = [_name(part) for part in value[names_key]]
    for number, cells in enumerate(value[cells_key], 1):
        if not isinstance(cells, list) or len(cells) != len(names):
            raise FileProblem(f"row {number}: does not have {len(names)} cells, one per column")
        yield dict(zip(names, cells, strict=True))


def _name(column: Any) -> str:
    """The name of a column, alone or in an object with its type."""
    return str(column.get("name")) if isinstance(column, Mapping) else str(column)
