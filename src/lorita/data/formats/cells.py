"""Cells of a source as texts, and text templates over several columns."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lorita.data.formats.written_chats import starts_like_chat, why_unreadable
from lorita.data.row_errors import RowComplain
from lorita.data.sources.source import Source
from lorita.errors import DataError

FILL_HINT = "Remove the empty rows, or fill them in."
OTHER_HINT = "Name a column that holds text."
MISSING = ("nan", "NaN", "None", "null", "NULL", "<NA>", "undefined")
"""Words that programs write where a value is missing, and that a text may also be."""
WIDEST = 9_999
"""Characters to which a text template may pad a cell; it may come from somebody else's run."""
_LIST = re.compile(r"\s*\[\s*[\[{'\"]")
CHAT_HINT = (
    "If all cells of the column are chats: --messages-field NAME. To train the text as it is, name "
    "the column with --text-field NAME, or --prompt-field and --completion-field."
)


def require_column(source: Source, field: str) -> None:
    """Raise a ``DataError`` listing the columns unless ``field`` is one of them."""
    if field not in source.columns:
        raise DataError(
            f"{source.origin}: no column {field!r}; the columns are {', '.join(source.columns)}"
        )


class Remarks:
    """What is worth saying about cells that were read: each remark with its number of cells."""

    def __init__(self, *, as_named: bool = False) -> None:
        self.as_named = as_named
        """Whether the user named the columns of text, so that even a chat is read as text."""
        self._counts: dict[tuple[str, str], int] = {}

    def add(self, field: str, what: str) -> None:
        """Count a cell of the column ``field``; ``what`` follows the count in the message."""
        self._counts[field, what] = self._counts.get((field, what), 0) + 1

    def lines(self) -> list[str]:
        """All remarks as phrases."""
        return [
            f"{field!r} has {count:,} {'cell' if count == 1 else 'cells'} {what}"
            for (field, what), count in self._counts.items()
        ]


def text_cells(
    cells: Mapping[str, list[Any]], field: str, complain: RowComplain, remarks: Remarks
) -> list[str]:
    """The column as texts; missing cells become empty, lists, objects and chats are reported.

    Numbers, true and false become what JSON writes for them, which is remarked on.
    """
    texts = []
    for row, cell in enumerate(cells[field]):
        if cell is None or cell != cell:  # NaN is how tables mark a missing value
            texts.append("")
        elif isinstance(cell, str):
            if starts_like_chat(cell):
                _remark_chat(row, field, cell, complain, remarks)
            elif _LIST.match(cell):
                remarks.add(
                    field, f"that begins as a list does ({cell.lstrip()[:2]}), trained as text"
                )
            elif cell.strip() in MISSING:
                word = repr(cell.strip())
                remarks.add(field, f"with the word {word}, trained as text (a missing value?)")
            texts.append(cell)
        elif isinstance(cell, (bool, int, float)):
            kind = "true or false" if isinstance(cell, bool) else "numbers"
            remarks.add(field, f"of {kind}, trained as JSON writes them")
            texts.append(json.dumps(cell))
        else:
            kind = type(cell).__name__
            complain(row, f"the column {field!r} does not hold text (found {kind})", OTHER_HINT)
            texts.append("-")
    return texts


def _remark_chat(row: int, field: str, cell: str, complain: RowComplain, remarks: Remarks) -> None:
    if remarks.as_named:
        remarks.add(field, "with a chat written as text, trained as text because it was named")
        return
    why = why_unreadable(cell)
    what = f"the column {field!r} holds a chat written as text"
    complain(row, f"{what} ({why})" if why else what, CHAT_HINT)


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
    source: Source, template: str, remarks: Remarks
) -> Callable[[Mapping[str, list[Any]], RowComplain], list[str]]:
    """A function that fills the template from cells; empty if all cells it uses are empty.

    Raises ``DataError`` as ``template_fields`` does.
    """
    fields = template_fields(source, template)

    def fill(cells: Mapping[str, list[Any]], complain: RowComplain) -> list[str]:
        columns = [text_cells(cells, field, complain, remarks) for field in fields]
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
    for _, field, form, _ in parsed:
        if field is not None and re.search(r"[{}]|\d{5}", form or ""):
            raise DataError(
                f"text_template {template!r}: the width of {field} is more than {WIDEST:,}"
            )
    for field in fields:
        require_column(source, field)
    return list(dict.fromkeys(fields))


def refuse_empty(texts: Sequence[str], column: str | None, complain: RowComplain) -> None:
    """Report the rows whose text is empty; ``column`` is named if it is given."""
    for row, text in enumerate(texts):
        if not text.strip():
            where = "" if column is None else f"the column {column!r} "
            complain(row, f"{where}is empty", FILL_HINT)
