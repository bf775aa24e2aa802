"""JSON: a list of objects, read piece by piece, or one object per line.

Values keep their form: text stays text, everything else is stored as JSON, so that rows need not
have the same shape.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from lorita.data.sources.file_table import FileProblems
from lorita.data.sources.open_file import (
    LONGEST_ROW,
    DataFile,
    FileProblem,
    lines_of,
    open_text,
    too_long,
)
from lorita.data.sources.table_batches import TableBatches, in_batches, text_batch

Row: TypeAlias = dict[str, Any]
CHUNK = 2**18
FOUND = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    type(None): "null",
}


class _Refused(ValueError):
    """Something that Python accepts and standard JSON does not."""


def _object(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        doubled = next(key for key in keys if keys.count(key) > 1)
        raise _Refused(f"duplicate key {doubled!r}")
    return row


def _constant(word: str) -> Any:
    raise _Refused(f"{word} is not allowed; write null, or omit the key")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def json_rows(file: DataFile, problems: list[str]) -> Iterator[Row]:
    """Every object of the file, a list or JSON Lines; bad rows are appended to ``problems``."""
    with open_text(file) as text:
        first = text.read(4096)
        while first.isspace() and (more := text.read(4096)):
            first = more
    if first.lstrip().startswith("["):
        return _list(file, problems)
    return _lines(file, problems)


def _lines(file: DataFile, problems: list[str]) -> Iterator[Row]:
    for number, line in enumerate(lines_of(file), 1):
        if not line.strip():
            continue
        try:
            row = _DECODER.decode(line)
        except json.JSONDecodeError as error:
            problems.append(
                f"line {number}: not valid JSON: {error.msg} at column {error.colno}"
                + (_one_object_hint(line) if number == 1 else "")
            )
            continue
        except (ValueError, RecursionError) as error:
            problems.append(f"line {number}: not valid JSON: {_reason(error)}")
            continue
        yield from _checked(row, f"line {number}", line, problems)


def _one_object_hint(line: str) -> str:
    if line.strip() not in ("{", '{"'):
        return ""
    return "; if the file is one object over several lines, put it in a list or on one line"


def _reason(error: BaseException) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _checked(row: Any, where: str, raw: str, problems: list[str]) -> Iterator[Row]:
    if not isinstance(row, dict):
        found = FOUND.get(type(row), "a number")
        problems.append(f"{where}: expected an object whose keys are columns, found {found}")
    elif "\\ud" in raw.lower() and _half_a_character(row):
        problems.append(f"{where}: incomplete character (a lone surrogate such as \\ud83d)")
    elif not row:
        problems.append(f"{where}: empty object")
    else:
        yield row


def _half_a_character(row: Row) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


class _Text:
    """A window on the text of a file, with the current position and its line number."""

    def __init__(self, file: DataFile) -> None:
        self._file = open_text(file)
        self.text, self.place, self.line, self.ended = "", 0, 1, False

    def more(self, count: int = CHUNK) -> None:
        """Read ``count`` more characters and discard those before the current position."""
        new = self._file.read(count)
        self.ended = not new
        self.text = self.text[self.place :] + new
        self.place = 0

    def go(self, place: int) -> None:
        """Move to ``place`` in the window, counting the lines in between."""
        self.line += self.text.count("\n", self.place, place)
        self.place = place

    def next(self) -> str:
        """Move to the next character that is not white space and return it; empty at the end."""
        while True:
            found = _NO_SPACE.search(self.text, self.place)
            if found or self.ended:
                self.go(found.start() if found else len(self.text))
                return found.group() if found else ""
            self.go(len(self.text))
            self.more()

    def value(self, where: str) -> tuple[Any, int]:
        """The JSON value that begins here and where it ends; reads on until it is complete.

        ``where`` names the value in the message of a ``FileProblem``.
        """
        while True:
            try:
                return _DECODER.raw_decode(self.text, self.place)
            except json.JSONDecodeError as error:
                if len(self.text) - self.place > LONGEST_ROW:
                    raise FileProblem(too_long(where)) from None
                cut = error.pos + 16 > len(self.text) or error.msg == _OPEN
                if self.ended or not cut:
                    line = self.line + self.text.count("\n", self.place, error.pos)
                    raise FileProblem(f"line {line}: not valid JSON: {error.msg}") from None
            except (ValueError, RecursionError) as error:
                raise FileProblem(f"{where}: not valid JSON: {_reason(error)}") from None
            self.more(max(CHUNK, len(self.text) - self.place))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


_NO_SPACE = re.compile(r"\S")
_OPEN = "Unterminated string starting at"
"""The decoder's message if the text ends inside a string; its position is the string's start."""


def _list(file: DataFile, problems: list[str]) -> Iterator[Row]:
    text = _Text(file)
    try:
        text.next()
        text.go(text.place + 1)
        if text.next() != "]":
            yield from _elements(text, problems)
        text.go(text.place + 1)
        if text.next():
            raise FileProblem(f"line {text.line}: extra content after the end of the list")
    except FileProblem as problem:
        problems.append(str(problem))
    finally:
        text.close()


def _elements(text: _Text, problems: list[str]) -> Iterator[Row]:
    number = 0
    while True:
        number += 1
        where = f"row {number} (line {text.line})"
        value, end = text.value(where)
        yield from _checked(value, where, text.text[text.place : end], problems)
        text.go(end)
        mark = text.next()
        if mark == "]":
            return
        if not mark:
            raise FileProblem(f"line {text.line}: the list is not closed; the file is truncated")
        if mark != ",":
            what = f"expected , or ] after a row, found {mark!r}"
            raise FileProblem(f"line {text.line}: not valid JSON: {what}")
        text.go(text.place + 1)
        if text.next() == "]":
            raise FileProblem(f"line {text.line}: not valid JSON: a comma before the closing ]")


def json_batches(file: DataFile, forced: Sequence[str], problems: FileProblems) -> TableBatches:
    """The rows as batches of strings, after a first pass that finds the columns.

    Columns in ``forced`` are JSON even if they hold only text. Bad rows are appended to
    ``problems``; raises ``FileProblem`` if there are no rows.
    """
    columns: dict[str, bool] = dict.fromkeys(forced, True)
    count = 0
    for row in json_rows(file, problems):
        count += 1
        for name, value in row.items():
            columns[name] = columns.get(name, False) or not isinstance(value, (str, type(None)))
    if problems:
        return {}
    if not count:
        raise FileProblem("the file has no rows")
    for batch in in_batches(json_rows(file, problems)):
        cells = ([_json_cell(row.get(name), columns[name]) for row in batch] for name in columns)
        yield text_batch(list(columns), cells)
    return {"json_columns": [name for name, is_json in columns.items() if is_json], "notes": []}


def _json_cell(value: Any, is_json: bool) -> str | None:
    return json.dumps(value, ensure_ascii=False) if is_json and value is not None else value
