"""Parquet files, packed or not, as tables."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lorita.data.origin import Part
from lorita.data.sources.file_table import FileRows
from lorita.data.sources.open_file import DataFile, FileProblem, open_bytes
from lorita.storage.cache import tables_folder
from lorita.system.quiet import quiet_libraries


def read_parquet(file: DataFile) -> FileRows:
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
    folder = tables_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{file.digest()[:40]}.parquet"
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}.part")
        with open_bytes(file) as packed, part.open("wb") as out:
            shutil.copyfileobj(packed, out)
        part.replace(path)
    return path
