"""Tables kept in the ``datasets`` cache: written once, read from disk without loading them.

An entry is an Arrow file and what there is to say about it, under a key made of everything that
the content depends on. What is asked for again is read; what has changed has another key.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.data.sources.table_batches import TableBatches
from lorita.errors import DataError
from lorita.storage.cache import tables_folder
from lorita.storage.files import write_atomic

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


def key_of(*parts: object) -> str:
    """A key from everything that an entry depends on; lorita's own code is part of it."""
    digest = hashlib.sha256(_code().encode())
    for part in parts:
        digest.update(json.dumps(part, sort_keys=True, default=str).encode() + b"\0")
    return digest.hexdigest()[:40]


@cache
def _code() -> str:
    """A hash of all of ``data``, which reads and tokenises: a corrected reader reads again."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def stored(key: str, write: Callable[[], TableBatches]) -> tuple[Dataset, dict[str, Any]]:
    """The entry of this key; ``write`` makes it where there is none, of one batch at least.

    Nothing stays behind if ``write`` fails. ``DataError`` where the cache cannot be written.
    """
    folder = tables_folder()
    table, notes = folder / f"{key}.arrow", folder / f"{key}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (table.exists() and notes.exists()):
            _write(table, notes, write())
        return _open(table), json.loads(notes.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{folder}: rows cannot be kept there ({error.strerror or error})",
            hint="HF_DATASETS_CACHE names another folder.",
        ) from error


def _write(table: Path, notes: Path, batches: TableBatches) -> None:
    import pyarrow as pa

    with tempfile.TemporaryDirectory(dir=table.parent, prefix=".writing-") as scratch:
        part = Path(scratch) / table.name
        first = next(batches)
        with pa.OSFile(str(part), "wb") as file, pa.ipc.new_stream(file, first.schema) as out:
            out.write_batch(first)
            said = _write_rest(out, batches)
        write_atomic(notes, json.dumps(said, ensure_ascii=False))
        part.replace(table)


def _write_rest(out: pa.RecordBatchWriter, batches: TableBatches) -> dict[str, Any]:
    while True:
        try:
            out.write_batch(next(batches))
        except StopIteration as end:
            said: dict[str, Any] = end.value
            return said


def _open(table: Path) -> Dataset:
    from datasets import Dataset

    return Dataset.from_file(str(table))
