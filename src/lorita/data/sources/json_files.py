"""JSON: a list of objects, one object per line, or an object that holds the rows.

Values keep their form: text stays text, everything else is stored as JSON, so that rows need not
have the same shape.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from lorita.data.sources.column_names import MOST_COLUMNS, check_count, check_filled
from lorita.data.sources.file_table import FileProblems
from lorita.data.sources.json_outline import TURN_KEYS, outline
from lorita.data.sources.json_shape import Shape, find_shape
from lorita.data.sources.json_shaped_rows import rows_in
from lorita.data.sources.json_text import DECODER, JsonText, reason
from lorita.data.sources.open_file import LONGEST_ROW, DataFile, FileProblem, lines_of, open_text
from lorita.data.sources.table_batches import TableBatches, in_batches, text_batch

Row: TypeAlias = dict[str, Any]
FOUND = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    type(None): "null",
}


def shape_of(file: DataFile, name: str | None, split: str) -> Shape:
    """How the rows lie in the file: ``list``, ``lines``, ``objects``, or a shape of an object.

    ``name`` and ``split`` choose among several lists in one object. Raises ``FileProblem`` if the
    file cannot be understood.
    """
    first, single = _first_line(file)
    if not first.startswith("{") or (not single and _is_whole(first)):
        if name is not None:
            raise FileProblem(f"has no part named {name!r}; the whole file is a list of rows")
        chats = not single and _is_chat(first)  # each line a list of turns
        return Shape("list" if first.startswith("[") and not chats else "lines")
    with JsonText(file) as text:
        text.next()
        root = outline(text)
        mark = text.next()
        if mark == "{":
            return Shape("objects", note="objects one after another, over several lines each")
        if mark:
            raise FileProblem(f"line {text.line}: extra content after the end of the object")
    return find_shape(root, name, split, one_line=single and _is_whole(first))


def _first_line(file: DataFile) -> tuple[str, bool]:
    """The first line that is not blank, and whether the file has no other."""
    with open_text(file) as text:
        line = text.readline(LONGEST_ROW + 1)
        while line.isspace():
            line = text.readline(LONGEST_ROW + 1)
        single = all(not more.strip() for more in iter(lambda: text.read(4096), ""))
        return line.strip(), single


def _is_whole(line: str) -> bool:
    """Whether a line is a JSON value, or a broken one; not the beginning of a longer one."""
    try:
        DECODER.decode(line)
    except json.JSONDecodeError as error:
        return error.pos < len(line) and len(line) < LONGEST_ROW
    except (ValueError, RecursionError):
        pass
    return True


def _is_chat(line: str) -> bool:
    try:
        value = DECODER.decode(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, list) and bool(value) and all(map(_is_turn, value))


def json_rows(file: DataFile, shape: Shape, problems: list[str]) -> Iterator[Row]:
    """Every object of the file; bad rows are appended to ``problems``."""
    if shape.kind == "lines":
        return _lines(file, problems)
    return _values(file, shape, problems)


def _lines(file: DataFile, problems: list[str]) -> Iterator[Row]:
    for number, line in enumerate(lines_of(file), 1):
        if not line.strip():
            continue
        try:
            row = DECODER.decode(line)
        except json.JSONDecodeError as error:
            problems.append(f"line {number}: not valid JSON: {error.msg} at column {error.colno}")
            continue
        except (ValueError, RecursionError) as error:
            problems.append(f"line {number}: not valid JSON: {reason(error)}")
            continue
        yield from _checked(row, f"line {number}", line, problems)


def _values(file: DataFile, shape: Shape, problems: list[str]) -> Iterator[Row]:
    try:
        with JsonText(file) as text:
            text.next()
            for row, where, raw in rows_in(text, shape):
                yield from _checked(row, where, raw, problems)
            if shape.kind == "list" and not shape.path and text.next():
                raise FileProblem(f"line {text.line}: extra content after the end of the list")
    except FileProblem as problem:
        problems.append(str(problem))


def _checked(row: Any, where: str, raw: str, problems: list[str]) -> Iterator[Row]:
    if isinstance(row, list) and row and all(map(_is_turn, row)):
        row = {"messages": row}
    if not isinstance(row, dict):
        found = FOUND.get(type(row), "a number")
        problems.append(f"{where}: expected an object whose keys are columns, found {found}")
    elif "\\ud" in raw.lower() and _half_a_character(row):
        problems.append(f"{where}: incomplete character (a lone surrogate such as \\ud83d)")
    elif not row:
        problems.append(f"{where}: empty object")
    else:
        yield row


def _is_turn(value: Any) -> bool:
    return isinstance(value, dict) and any(key in value for key in TURN_KEYS)


def _half_a_character(row: Row) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def json_batches(
    file: DataFile, forced: Sequence[str], problems: FileProblems, name: str | None, split: str
) -> TableBatches:
    """The rows as batches of strings, after a first pass that finds the columns.

    Columns in ``forced`` are JSON even if they hold only text. ``name`` and ``split`` choose among
    several lists of rows. Bad rows are appended to ``problems``; raises ``FileProblem`` if there
    are no rows.
    """
    shape = shape_of(file, name, split)
    columns: dict[str, bool] = dict.fromkeys(forced, True)
    count = cells = 0
    for row in json_rows(file, shape, problems):
        count, cells = count + 1, cells + len(row)
        for column, value in row.items():
            columns[column] = columns.get(column, False) or not isinstance(value, (str, type(None)))
        if len(columns) > MOST_COLUMNS:
            check_count(f"row {count}", len(columns))
    if problems:
        return {}
    if not count:
        raise FileProblem("the file has no rows")
    check_filled(count, len(columns), cells)
    for batch in in_batches(json_rows(file, shape, problems)):
        parts = ([_json_cell(row.get(name), columns[name]) for row in batch] for name in columns)
        yield text_batch(list(columns), parts)
    return {
        "json_columns": [column for column, is_json in columns.items() if is_json],
        "notes": [shape.note] if shape.note else [],
    }


def _json_cell(value: Any, is_json: bool) -> str | None:
    return json.dumps(value, ensure_ascii=False) if is_json and value is not None else value
