"""Tables cached beside those of ``datasets``: written once, memory-mapped afterwards.

An entry is an Arrow file with its notes, under a key made of everything that its content depends
on. If any of that changes, so does the key, and the table is made again.
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


def stored(key: str, write: Callable[[], TableBatches]) -> tuple[Dataset, dict[str, Any]]:
    """The table and notes under ``key``, written first if missing.

    ``write`` yields at least one batch; if it fails, nothing is left behind. Raises ``DataError``
    if the cache cannot be written.
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
            f"{folder}: the cache cannot be written ({error.strerror or error})",
            hint="Choose another folder with HF_DATASETS_CACHE.",
        ) from error


def _write(table: Path, notes: Path, batches: TableBatches) -> None:
    import pyarrow as pa

    with tempfile.TemporaryDirectory(dir=table.parent, prefix=".writing-") as scratch:
        part = Path(scratch) / table.name
        first = next(batches)
        with pa.OSFile(str(part), "wb") as file, pa.ipc.new_stream(file, first.schema) as out:
            out.write_batch(first)
            content = _write_rest(out, batches)
        write_atomic(notes, json.dumps(content, ensure_ascii=False))
        part.replace(table)


def _write_rest(out: pa.RecordBatchWriter, batches: TableBatches) -> dict[str, Any]:
    while True:
        try:
            out.write_batch(next(batches))
        except StopIteration as end:
            notes: dict[str, Any] = end.value
            return notes


def _open(table: Path) -> Dataset:
    from datasets import Dataset

    return Dataset.from_file(str(table))
