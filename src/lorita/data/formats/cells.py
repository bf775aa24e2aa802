"""Cells of a source as texts, and text templates over several columns."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lorita.data.row_errors import RowComplain
from lorita.data.sources.source import Source
from lorita.errors import DataError

FILL_HINT = "Remove the empty rows, or fill them in."
OTHER_HINT = "Name a column that holds text."


def require_column(source: Source, field: str) -> None:
    """Raise a ``DataError`` listing the columns unless ``field`` is one of them."""
    if field not in source.columns:
        raise DataError(
            f"{source.origin}: no column {field!r}; the columns are {', '.join(source.columns)}"
        )


def text_cells(cells: Mapping[str, list[Any]], field: str, complain: RowComplain) -> list[str]:
    """The column as texts; missing cells become empty, lists and objects are reported."""
    texts = []
    for row, cell in enumerate(cells[field]):
        if cell is None or cell != cell:  # NaN is how tables mark a missing value
            texts.append("")
        elif is_plain(cell):
            texts.append(str(cell))
        else:
            kind = type(cell).__name__
            complain(row, f"the column {field!r} does not hold text (found {kind})", OTHER_HINT)
            texts.append("-")
    return texts


def is_plain(cell: object) -> bool:
    """Whether a cell can be read as text: a string or a number."""
    return isinstance(cell, (str, int, float))


def holds_text(cells: Sequence[object]) -> bool:
    """Whether any cell contains words; numbers alone are ids, scores or years."""
    return any(isinstance(cell, str) and cell.strip() and not _is_number(cell) for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def template_reader(
    source: Source, template: str
) -> Callable[[Mapping[str, list[Any]], RowComplain], list[str]]:
    """A function that fills the template from cells; empty if all cells it uses are empty.

    Raises ``DataError`` as ``template_fields`` does.
    """
    fields = template_fields(source, template)

    def fill(cells: Mapping[str, list[Any]], complain: RowComplain) -> list[str]:
        columns = [text_cells(cells, field, complain) for field in fields]
        # Filling it from empty cells would still leave the template's own words.
        return [
            template.format_map(dict(zip(fields, row, strict=True)))
            if any(cell.strip() for cell in row)
            else ""
            for row in zip(*columns, strict=True)
        ]

    return fill


def template_fields(source: Source, template: str) -> list[str]:
    """The columns that the template names; ``DataError`` if it is malformed or one is missing."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise DataError(f"text_template {template!r}: {error}") from None
    fields = [field for _, field, _, _ in parsed if field is not None]
    if not fields:
        raise DataError(f"text_template {template!r} names no column; write a column as {{name}}")
    for field in fields:
        require_column(source, field)
    return list(dict.fromkeys(fields))


def refuse_empty(texts: Sequence[str], column: str | None, complain: RowComplain) -> None:
    """Report the rows whose text is empty; ``column`` is named if it is given."""
    for row, text in enumerate(texts):
        if not text.strip():
            where = "" if column is None else f"the column {column!r} "
            complain(row, f"{where}is empty", FILL_HINT)
