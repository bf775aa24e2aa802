"""Spreadsheets (Excel, OpenDocument) as tables of text, read by ``python-calamine``."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from lorita.data.sources.column_names import check_columns
from lorita.data.sources.file_table import FileProblems
from lorita.data.sources.open_file import BOMB_RATIO, BOMB_SIZE, DataFile, FileProblem
from lorita.data.sources.table_batches import TableBatches, in_batches, text_batch

Sheet = list[list[Any]]


def sheet_batches(file: DataFile, problems: FileProblems, name: str | None) -> TableBatches:
    """The rows of a sheet as batches of strings; the first row that is not empty is the header.

    ``name`` is the sheet to read. Raises ``FileProblem`` if it does not exist, if several sheets
    have rows and none is named, or if no rows are found.
    """
    title, others, rows = _sheet(_sheets(file), name)
    start = next(i for i, row in enumerate(rows) if _filled(row))
    header = [str(_text(cell) or "").strip() for cell in rows[start]]
    width = max(i for i, column in enumerate(header, 1) if column)
    columns = [column or f"Unnamed: {i}" for i, column in enumerate(header[:width])]
    check_columns(f"row {start + 1}", columns)
    count = 0
    for batch in in_batches(_rows(rows, start, width, problems)):
        count += len(batch)
        yield text_batch(columns, zip(*batch, strict=True))
    if not count and not problems:
        raise FileProblem(f"the sheet {title!r} has a header but no rows")
    note = f"the sheet {title!r}" + (f" (not read: {', '.join(others)})" if others else "")
    return {"json_columns": [], "notes": [note]}


def _rows(
    rows: Sheet, start: int, width: int, problems: FileProblems
) -> Iterator[list[str | None]]:
    for number, row in enumerate(rows[start + 1 :], start + 2):
        if _filled(row[width:]):
            problems.append(f"row {number}: more cells than the header has ({width})")
        elif _filled(row):
            yield [_text(cell) for cell in row[:width]]


def _filled(row: Sequence[Any]) -> bool:
    return any(cell is not None and cell != "" for cell in row)


def _text(cell: Any) -> str | None:
    """A cell as text: whole numbers without a point, dates in ISO form, true and false."""
    if cell is None or cell == "":
        return None
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return str(int(cell))
    if isinstance(cell, (bool, int, float)):
        return json.dumps(cell)
    return cell if isinstance(cell, str) else str(cell)


def _sheets(file: DataFile) -> dict[str, Sheet]:
    """Every visible sheet that has cells."""
    if file.packing is not None:
        raise FileProblem("a compressed spreadsheet; decompress it first")
    try:
        from python_calamine import CalamineError, CalamineWorkbook, SheetVisibleEnum
    except ImportError:
        raise FileProblem(
            "spreadsheets need python-calamine: pip install 'lorita[excel]'; or save the sheet as "
            "CSV"
        ) from None
    _refuse_bomb(file)
    try:
        with CalamineWorkbook.from_path(str(file.path)) as book:
            visible = [
                s.name for s in book.sheets_metadata if s.visible is SheetVisibleEnum.Visible
            ]
            sheets = {
                name: book.get_sheet_by_name(name).to_python(skip_empty_area=False)
                for name in visible
            }
    except (CalamineError, OSError) as error:
        what = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FileProblem(
            f"cannot be read as a spreadsheet; damaged, or protected by a password ({what})"
        ) from error
    return {name: rows for name, rows in sheets.items() if any(map(_filled, rows))}


def _refuse_bomb(file: DataFile) -> None:
    """Most spreadsheets are zip archives; one that grows like a zip bomb is not opened."""
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(file.path) as archive:
        size = sum(part.file_size for part in archive.infolist())
        if size > max(BOMB_SIZE, BOMB_RATIO * file.path.stat().st_size):
            raise FileProblem(f"it unpacks to {size:,} bytes, which looks like a zip bomb")


def _sheet(sheets: dict[str, Sheet], name: str | None) -> tuple[str, list[str], Sheet]:
    """The sheet to read, and the names of the others."""
    listed = ", ".join(sheets)
    if not sheets:
        raise FileProblem("the spreadsheet has no cells in its visible sheets")
    if name is not None and name not in sheets:
        raise FileProblem(f"no sheet {name!r} with cells; it has {listed}")
    if name is None and len(sheets) > 1:
        raise FileProblem(f"several sheets have cells ({listed}); name one with --data-name")
    title = name or next(iter(sheets))
    return title, [other for other in sheets if other != title], sheets[title]
