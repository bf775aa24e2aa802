"""Tables cached beside those of ``datasets``: written once, memory-mapped afterwards.

An entry is an Arrow file with its notes, under a key made of everything that its content depends
on. If any of that changes, so does the key, and the table is made again. So is one that is damaged
or that another user could have written: the notes hold the table's hash, and begin with their own.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lorita.data.sources.arrow_table import ArrowTable
from lorita.data.sources.table_batches import TableBatches
from lorita.errors import DataError
from lorita.storage.cache import mark_used, tables_folder
from lorita.storage.disk import remove
from lorita.storage.parts import Part
from lorita.storage.private import open_own, private_file

if TYPE_CHECKING:
    import pyarrow as pa


def key_of(*parts: object) -> str:
    """A cache key from everything an entry depends on; the code in ``data`` is always included."""
    digest = hashlib.sha256(_code().encode())
    for part in parts:
        digest.update(json.dumps(part, sort_keys=True, default=str).encode() + b"\0")
    return digest.hexdigest()[:40]


@cache
def _code() -> str:
    """The hash of ``lorita/data``, which reads and tokenises: a corrected reader reads again."""
    return code_hash(Path(__file__).parents[1])


def code_hash(folder: Path) -> str:
    """A hash of the names and contents of all Python files under ``folder``."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def stored(key: str, write: Callable[[], TableBatches]) -> tuple[ArrowTable, dict[str, Any]]:
    """The table and notes under ``key``, written first if missing.

    ``write`` yields at least one batch; if it fails, nothing is left behind. Raises ``DataError``
    if the cache cannot be written.
    """
    folder = tables_folder()
    table, notes = folder / f"{key}.arrow", folder / f"{key}.json"
    found = _believed_notes(table, notes)
    try:
        if found is None:
            found = _write(table, notes, write())
        mark_used(table)
        mark_used(notes)
        return ArrowTable(table), found
    except OSError as error:
        raise DataError(
            f"{folder}: the cache cannot be written ({error.strerror or error})",
            hint="Choose another folder with HF_DATASETS_CACHE.",
        ) from error


def _believed_notes(table: Path, notes: Path) -> dict[str, Any] | None:
    """The notes of an entry that this user wrote and that is as it was written; else None."""
    try:
        with open_own(notes) as file:
            own, _, content = file.read().partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != own:
            return None
        values = json.loads(content)
        with open_own(table) as file:
            whole = _digest(file) == values["table"]
        found = values["notes"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if whole and isinstance(found, dict) else None


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(2**20):
        digest.update(chunk)
    return digest.hexdigest()


def _write(table: Path, notes: Path, batches: TableBatches) -> dict[str, Any]:
    import pyarrow as pa

    with Part(table.parent, "table") as part:
        made = part.path / "table"
        private_file(made).close()
        first = next(batches)
        with pa.OSFile(str(made), "wb") as file, pa.ipc.new_stream(file, first.schema) as out:
            out.write_batch(first)
            read = _write_rest(out, batches)
        with made.open("rb+") as whole:
            os.fsync(whole.fileno())
            values = {"table": _digest(whole), "notes": read}
        content = json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass")
        with private_file(part.path / "notes") as out_notes:
            out_notes.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
            out_notes.flush()
            os.fsync(out_notes.fileno())
        for old in (table, notes):
            if old.is_dir():  # a file replaces anything else by itself
                remove(old)
        made.replace(table)
        (part.path / "notes").replace(notes)
    found: dict[str, Any] = json.loads(content)["notes"]  # as it will be read
    return found


def _write_rest(out: pa.RecordBatchWriter, batches: TableBatches) -> dict[str, Any]:
    while True:
        try:
            out.write_batch(next(batches))
        except StopIteration as end:
            notes: dict[str, Any] = end.value
            return notes
