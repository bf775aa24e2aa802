"""Columns of a source as texts, and templates over several columns."""

from __future__ import annotations

import string
from collections.abc import Sequence

from lorita.data.rows import rows_text
from lorita.data.sources import Source
from lorita.errors import DataError


def require_column(source: Source, field: str) -> None:
    """``DataError`` that lists the columns there are, unless ``field`` is one of them."""
    if field not in source.columns:
        raise DataError(
            f"{source.origin}: there is no column {field!r}; "
            f"the columns are {', '.join(source.columns)}"
        )


def text_cells(source: Source, field: str) -> list[str]:
    """The column as texts; a missing cell is an empty one. ``DataError`` for lists and objects."""
    require_column(source, field)
    cells = source.rows[field][:]
    wrong = [row for row, cell in enumerate(cells, 1) if cell is not None and not is_plain(cell)]
    if wrong:
        kind = type(cells[wrong[0] - 1]).__name__
        raise DataError(
            f"{source.origin}: column {field!r} holds no text in {rows_text(wrong)} (found {kind})"
        )
    return ["" if cell is None else str(cell) for cell in cells]


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


def template_texts(source: Source, template: str) -> list[str]:
    """The template filled from every row; empty where all the cells that it names are empty."""
    fields = _template_fields(source, template)
    cells = {field: text_cells(source, field) for field in fields}
    rows = range(len(source.rows))
    # A row whose cells are all empty still has the template's own words.
    filled = [any(cells[f][i].strip() for f in fields) for i in rows]
    return [template.format_map({f: cells[f][i] for f in fields}) * filled[i] for i in rows]


def _template_fields(source: Source, template: str) -> list[str]:
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


def refuse_empty(source: Source, texts: Sequence[str], what: str = "") -> None:
    """``DataError`` that names the rows without text; ``what`` says which part of them is empty."""
    empty = [row for row, text in enumerate(texts, 1) if not text.strip()]
    if empty:
        raise DataError(
            f"{source.origin}: {what}{rows_text(empty)} {'is' if len(empty) == 1 else 'are'} empty",
            hint="Remove the empty rows, or fill them.",
        )
