"""What the columns mean: which text each row gives, and how that was decided.

Nothing is guessed in silence: the result says which columns were taken and which were left.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

from lorita.data.sources import Source
from lorita.errors import DataError

TEXT_COLUMNS = ("text", "prompt", "content")
"""Columns that hold the text when nothing else is said, in this order."""


@dataclass(frozen=True)
class Texts:
    """One text a row; ``understood`` says in a sentence how the rows were read."""

    texts: list[str]
    understood: str


def read_texts(
    source: Source, *, text_field: str | None = None, text_template: str | None = None
) -> Texts:
    """The text of every row, from a column or a template over several columns.

    Raises ``DataError`` for a column that is not there, cells that are no text, and empty rows.
    """
    if text_template is not None:
        fields = _template_fields(source, text_template)
        cells = {field: _cells(source, field) for field in fields}
        texts = [
            text_template.format_map({f: cells[f][i] for f in fields})
            for i in range(len(source.rows))
        ]
        # A row whose cells are all empty still has the template's own words.
        filled = [any(cells[f][i].strip() for f in fields) for i in range(len(texts))]
        _refuse_empty(source, [t if full else "" for t, full in zip(texts, filled, strict=True)])
        return Texts(texts, f"text from the template {text_template!r}")
    field = text_field or _guess_field(source)
    _require_column(source, field)
    texts = _cells(source, field)
    _refuse_empty(source, texts)
    others = [column for column in source.columns if column != field]
    left = f"; not used: {', '.join(others)}" if others else ""
    return Texts(texts, f"text from the column {field!r}{left}")


def _guess_field(source: Source) -> str:
    for column in TEXT_COLUMNS:
        if column in source.columns:
            return column
    if len(source.columns) == 1:
        return source.columns[0]
    raise DataError(
        f"{source.origin}: which column holds the text? It has {', '.join(source.columns)}",
        hint='Say it with --text-field NAME or --text-template "{a}: {b}".',
    )


def _require_column(source: Source, field: str) -> None:
    if field not in source.columns:
        raise DataError(
            f"{source.origin}: there is no column {field!r}; "
            f"the columns are {', '.join(source.columns)}"
        )


def _template_fields(source: Source, template: str) -> list[str]:
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise DataError(f"text_template {template!r}: {error}") from None
    fields = [field for _, field, _, _ in parsed if field is not None]
    if not fields:
        raise DataError(f"text_template {template!r} names no column; write it as {{column}}")
    for field in fields:
        _require_column(source, field)
    return list(dict.fromkeys(fields))


def _cells(source: Source, field: str) -> list[str]:
    cells = source.rows[field][:]
    wrong = [row for row, cell in enumerate(cells, 1) if cell is not None and not _is_plain(cell)]
    if wrong:
        kind = type(cells[wrong[0] - 1]).__name__
        raise DataError(
            f"{source.origin}: column {field!r} holds no text in {rows_text(wrong)} (found {kind})"
        )
    return ["" if cell is None else str(cell) for cell in cells]


def _is_plain(cell: object) -> bool:
    return isinstance(cell, (str, int, float))


def _refuse_empty(source: Source, texts: Sequence[str]) -> None:
    empty = [row for row, text in enumerate(texts, 1) if not text.strip()]
    if empty:
        raise DataError(
            f"{source.origin}: {rows_text(empty)} {'is' if len(empty) == 1 else 'are'} empty",
            hint="Remove the empty rows, or fill them.",
        )


def rows_text(rows: Sequence[int], most: int = 5) -> str:
    """``row 3`` or ``rows 3, 7 and 12 more``; rows are counted from 1."""
    if len(rows) == 1:
        return f"row {rows[0]}"
    shown = ", ".join(str(row) for row in rows[:most])
    return f"rows {shown}" + (f" and {len(rows) - most} more" if len(rows) > most else "")
