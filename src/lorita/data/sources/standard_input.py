"""Standard input as a data file: copied to disk once, its type told from its content."""

from __future__ import annotations

import csv
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from lorita.data.sources.csv_dialect import LONGEST_NAME, find_dialect, quotes_are_text
from lorita.data.sources.open_file import DataFile, FileProblem, open_text
from lorita.storage.cache import tables_folder
from lorita.storage.parts import Part
from lorita.storage.private import private_file

NAME = "standard input"
SAMPLE = 2**16
"""Characters of standard input that are looked at to tell its type."""
PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes of compressed input, and the compression they stand for."""


def copy_standard_input(file_type: str | None) -> tuple[DataFile, Part]:
    """Standard input copied to a file in a ``Part``, which the caller removes.

    The type is ``file_type`` or detected. Raises ``FileProblem`` if nothing is piped in.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise FileProblem("nothing is piped in; use: some-command | lorita ...")
    part = Part(tables_folder(), "input")
    try:
        with private_file(part.path / "data") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        return _detected(part.path / "data", file_type), part
    except BaseException:
        part.remove()
        raise


def _detected(path: Path, file_type: str | None) -> DataFile:
    if path.stat().st_size == 0:
        raise FileProblem("standard input is empty")
    with path.open("rb") as raw:
        start = raw.read(4)
    packing = next((name for magic, name in PACKED.items() if start.startswith(magic)), None)
    file = DataFile(path, "text", packing, NAME)
    kind = file_type or ("parquet" if start == b"PAR1" else _kind_of_text(file))
    return replace(file, kind=kind)


def _kind_of_text(file: DataFile) -> str:
    """``json``, ``csv`` (rows as wide as a header of several columns), or ``text``."""
    with open_text(file) as text:
        sample = text.read(SAMPLE)
    if sample.lstrip().startswith(("{", "[")):
        return "json"
    lines = sample.splitlines(keepends=True)
    whole = lines[:-1] if len(sample) == SAMPLE else lines
    dialect = find_dialect(lines, ",")
    if quotes_are_text(whole, iter(whole), dialect):
        dialect = replace(dialect, quote=None)
    try:
        rows = [row for row in dialect.reader(iter(lines)) if row]
    except csv.Error:
        return "text"
    even = len(rows) > 1 and len(rows[0]) > 1 and len({len(row) for row in rows[:-1]}) == 1
    return "csv" if even and all(len(name) < LONGEST_NAME for name in rows[0]) else "text"
