"""Cells of a source as texts, and templates over several columns."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lorita.data.row_errors import RowComplain
from lorita.data.sources.source import Source
from lorita.errors import DataError

FILL_HINT = "Remove the empty rows, or fill them."
OTHER_HINT = "Name a column that holds text."


def require_column(source: Source, field: str) -> None:
    """``DataError`` that lists the columns there are, unless ``field`` is one of them."""
    if field not in source.columns:
        raise DataError(
            f"{source.origin}: there is no column {field!r}; "
            f"the columns are {', '.join(source.columns)}"
        )


def text_cells(cells: Mapping[str, list[Any]], field: str, complain: RowComplain) -> list[str]:
    """The column as texts; a missing cell is an empty one, lists and objects are wrong."""
    texts = []
    for row, cell in enumerate(cells[field]):
        if cell is None or cell != cell:  # NaN is a table's word for nothing
            texts.append("")
        elif is_plain(cell):
            texts.append(str(cell))
        else:
            kind = type(cell).__name__
            complain(row, f"the column {field!r} holds no text (found {kind})", OTHER_HINT)
            texts.append("-")
    return texts


def is_plain(cell: object) -> bool:
    """Whether a cell can be read as a text."""
    return isinstance(cell, (str, int, float))


def holds_text(cells: Sequence[object]) -> bool:
    """Whether some cells are words, not numbers alone: numbers are ids, scores and years."""
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
    """A function that fills the template from cells; empty where all that it names are empty."""
    fields = template_fields(source, template)

    def fill(cells: Mapping[str, list[Any]], complain: RowComplain) -> list[str]:
        columns = [text_cells(cells, field, complain) for field in fields]
        # A row whose cells are all empty still has the template's own words.
        return [
            template.format_map(dict(zip(fields, row, strict=True)))
            if any(cell.strip() for cell in row)
            else ""
            for row in zip(*columns, strict=True)
        ]

    return fill


def template_fields(source: Source, template: str) -> list[str]:
    """The columns that the template names; ``DataError`` if it is broken or one is not there."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise DataError(f"text_template {template!r}: {error}") from None
    fields = [field for _, field, _, _ in parsed if field is not None]
    if not fields:
        raise DataError(f"text_template {template!r} names no column; write it as {{column}}")
    for field in fields:
        require_column(source, field)
    return list(dict.fromkeys(fields))


def refuse_empty(texts: Sequence[str], column: str | None, complain: RowComplain) -> None:
    """Tell the rows without text."""
    for row, text in enumerate(texts):
        if not text.strip():
            where = "" if column is None else f"the column {column!r} "
            complain(row, f"{where}is empty", FILL_HINT)
