"""One data file to a table in the cache, whatever is in it.

The file is read once, and again only when its bytes or the way of reading change. Its mistakes
are gathered on the way, each with its line.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.data.origin import Part
from lorita.data.sources.csv_files import CsvRows
from lorita.data.sources.json_files import json_rows
from lorita.data.sources.open_file import DataFile, FileProblem, no_utf8, open_bytes
from lorita.data.sources.table_cache import (
    BATCH_BYTES,
    BATCH_ROWS,
    Writing,
    cache_folder,
    key_of,
    stored,
)
from lorita.data.sources.text_files import text_rows, usual_unit
from lorita.errors import DataError
from lorita.system.quiet import quiet_libraries

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

MOST_PROBLEMS = 5
"""Problems listed per file; a file with one wrong line often has thousands."""
MOST_LINES = 10**6
"""Rows of a text of which the lines are remembered, for messages."""
ONLY_HEADER = "there is a header and no row below it"


@dataclass(frozen=True)
class FileRows:
    """The table of a file. ``json_columns`` hold JSON as text; ``notes`` say how it was read."""

    table: Dataset
    part: Part
    json_columns: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def read_file(file: DataFile, text_unit: str | None, json_columns: frozenset[str]) -> FileRows:
    """All rows of a file; ``json_columns`` are to be kept as JSON even if they hold texts.

    Raises ``DataError`` with all that is wrong with the file.
    """
    try:
        if file.kind == "parquet":
            return _read_parquet(file)
        unit = text_unit or usual_unit(file.kind)
        forced = sorted(json_columns)
        key = key_of("rows", file.digest(), file.kind, file.packing, unit, forced)
        table, said = stored(key, lambda: _write(file, unit, forced))
    except UnicodeDecodeError as error:
        raise DataError(f"{file.name}: {no_utf8(file, error)}") from None
    except FileProblem as problem:
        raise DataError(f"{file.name}: {problem}") from None
    except OSError as error:
        raise DataError(f"{file.name}: cannot be read ({error.strerror or error})") from None
    part = Part(file.name, len(table), said.get("lines"))
    notes = tuple(f"{file.name}: {note}" for note in said["notes"])
    return FileRows(table, part, frozenset(said["json_columns"]), notes)


def _write(file: DataFile, unit: str, forced: Sequence[str]) -> Writing:
    problems = _Problems()
    try:
        if file.kind in ("csv", "tsv"):
            said = yield from _write_csv(file, problems)
        elif file.kind == "json":
            said = yield from _write_json(file, forced, problems)
        else:
            said = yield from _write_text(file, unit, problems)
    except _Enough:
        problems[-1:] = ["and more of the kind"]
    except FileProblem as problem:
        problems += [str(problem)]
    if problems:
        raise DataError([f"{file.name}: {problem}" for problem in problems])
    return said


class _Enough(Exception):
    """There are problems enough."""


class _Problems(list[str]):
    """Problems of a file; it ends the reading when there are more than anybody reads."""

    def append(self, problem: str) -> None:
        super().append(problem)
        if len(self) > MOST_PROBLEMS:
            raise _Enough


def _write_csv(file: DataFile, problems: _Problems) -> Writing:
    rows = CsvRows(file, problems)
    count = 0
    for batch in _portions(rows):
        count += len(batch)
        yield _texts_batch(rows.columns, zip(*batch, strict=True))
    if not count and not problems:
        raise FileProblem(ONLY_HEADER)
    usual = "tab" if file.kind == "tsv" else "comma"
    said = str(rows.dialect)
    return {"json_columns": [], "notes": [] if said == f"{usual}-separated" else [said]}


def _write_json(file: DataFile, forced: Sequence[str], problems: _Problems) -> Writing:
    """The columns have to be known first, so the file is gone through twice."""
    columns: dict[str, bool] = dict.fromkeys(forced, True)
    count = 0
    for row in json_rows(file, problems):
        count += 1
        for name, value in row.items():
            columns[name] = columns.get(name, False) or not isinstance(value, (str, type(None)))
    if problems:
        return {}
    if not count:
        raise FileProblem("there are no rows in it")
    for batch in _portions(json_rows(file, problems)):
        cells = ([_json_cell(row.get(name), columns[name]) for row in batch] for name in columns)
        yield _texts_batch(list(columns), cells)
    return {"json_columns": [name for name, is_json in columns.items() if is_json], "notes": []}


def _json_cell(value: Any, is_json: bool) -> str | None:
    import json

    return json.dumps(value, ensure_ascii=False) if is_json and value is not None else value


def _write_text(file: DataFile, unit: str, problems: _Problems) -> Writing:
    lines: list[int] = []
    count = last = 0
    for batch in _portions(text_rows(file, unit)):
        count += len(batch)
        last = batch[-1][0]
        if count <= MOST_LINES:
            lines += [line for line, _ in batch]
        yield _texts_batch(["text"], [[text for _, text in batch]])
    if not count:
        raise FileProblem("there is no text in it")
    whole = unit == "line" and last == count
    notes = [] if unit == usual_unit(file.kind) == "line" else [f"a row is a {unit}"]
    if unit == "line" and not whole:
        notes.append("blank lines are left out")
    return {
        "json_columns": [],
        "notes": notes,
        "lines": None if whole or count > MOST_LINES else lines,
    }


def _portions(rows: Any) -> Iterator[list[Any]]:
    """Rows in lists that are not too large to be written at once."""
    batch: list[Any] = []
    size = 0
    for row in rows:
        batch.append(row)
        cells = row.values() if isinstance(row, dict) else row
        size += sum(len(cell) if isinstance(cell, (str, list)) else 8 for cell in cells)
        if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _texts_batch(columns: Sequence[str], cells: Any) -> pa.RecordBatch:
    import pyarrow as pa

    arrays = [pa.array(list(column), type=pa.string()) for column in cells]
    return pa.record_batch(arrays, names=list(columns))


def _read_parquet(file: DataFile) -> FileRows:
    import pyarrow.parquet as pq
    from datasets import load_dataset

    path = file.path if file.packing is None else _unpack(file)
    try:
        footer = pq.read_metadata(path)
        if footer.num_rows == 0:
            raise FileProblem("there are no rows in it")
        with quiet_libraries():
            table = load_dataset("parquet", data_files=str(path), split="train", name=file.digest())
    except FileProblem:
        raise
    except Exception as error:  # the reader behind `datasets` has errors of its own
        cause = error.__cause__ or error
        what = str(cause).strip().splitlines()[0]
        raise FileProblem(f"cannot be read as Parquet, damaged or cut short ({what})") from error
    return FileRows(table, Part(file.name, len(table)))


def _unpack(file: DataFile) -> Path:
    """An unpacked copy in the cache, one for the same bytes."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{file.digest()[:40]}.parquet"
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}.part")
        with open_bytes(file) as packed, part.open("wb") as out:
            shutil.copyfileobj(packed, out)
        part.replace(path)
    return path
