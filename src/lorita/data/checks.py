"""Look through a local data file before it is read, and name the line that is wrong.

``datasets`` would pad a short CSV line in silence and report a broken JSON line without its
number. Nothing is parsed here beyond what finding the mistake needs.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

MOST_PROBLEMS = 5
"""Problems listed per file; a file with one wrong line often has thousands."""


def check_file(file: Path, readers: Mapping[str, str]) -> list[str]:
    """What is wrong with the file, one line a problem; empty if nothing is."""
    if not file.exists():
        return [f"{file}: there is no such file"]
    if file.is_dir():
        return [f"{file}: this is a folder; give the files in it"]
    kind = readers.get(file.suffix.lower())
    if kind is None:
        return [f"{file}: unknown file type; lorita reads {', '.join(readers)}"]
    try:
        if file.stat().st_size == 0:
            return [f"{file}: the file is empty"]
        check = {"csv": _check_csv, "json": _check_json, "text": _check_text}.get(kind)
        return [f"{file}: {problem}" for problem in _first(check(file))] if check else []
    except UnicodeDecodeError as error:
        line = _line_of_byte(file, error.object, error.start)
        return [f"{file}: not UTF-8{line}; save it as UTF-8"]
    except OSError as error:
        return [f"{file}: cannot be read ({error.strerror})"]


def _first(problems: Iterator[str]) -> list[str]:
    found = []
    for problem in problems:
        found.append(problem)
        if len(found) > MOST_PROBLEMS:
            found[-1] = "and more of the kind"
            break
    return found


def _line_of_byte(file: Path, chunk: bytes, start: int) -> str:
    """Where the first bytes stand that are no UTF-8: decoding fails in a chunk of unknown place."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                return f" (line {number}, bytes {line[error.start : error.end]!r})"
    return f" (bytes {chunk[start : start + 4]!r})"


def _check_csv(file: Path) -> Iterator[str]:
    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with file.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, delimiter=separator, strict=True)
        try:
            header = next(reader, [])
            doubled = sorted({name for name in header if header.count(name) > 1})
            if doubled:
                yield f"line 1: the column names {', '.join(doubled)} stand there twice"
            rows = 0
            start = reader.line_num + 1
            for fields in reader:
                if fields and len(fields) != len(header):
                    yield (
                        f"line {start}: {len(fields)} fields, the header has {len(header)} "
                        f"({', '.join(header)})"
                    )
                rows += bool(fields)
                start = reader.line_num + 1
        except csv.Error as error:
            yield f"line {reader.line_num}: {error}"
            return
        if not rows:
            yield "there is a header and no row below it"


def _check_json(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8-sig") as text:
        if file.suffix.lower() == ".json" and _starts_with_bracket(file):
            yield from _check_json_array(text.read())
            return
        rows = 0
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            rows += 1
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                yield f"line {number}: not valid JSON: {error.msg} at column {error.colno}"
                continue
            if not isinstance(row, dict):
                yield f"line {number}: expected an object, found {type(row).__name__}"
        if not rows:
            yield "there are no rows in it"


def _starts_with_bracket(file: Path) -> bool:
    with file.open(encoding="utf-8-sig") as text:
        return text.read(4096).lstrip().startswith("[")


def _check_json_array(text: str) -> Iterator[str]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        yield f"line {error.lineno}: not valid JSON: {error.msg} at column {error.colno}"
        return
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            yield f"element {number}: expected an object, found {type(row).__name__}"
    if not rows:
        yield "there are no rows in it"


def _check_text(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8-sig") as text:
        if not any(line.strip() for line in text):
            yield "there is no text in it"
