"""Parquet files as tables. Compressed ones are decompressed into the cache first."""

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
    """The table of a Parquet file, read by ``datasets``.

    Raises ``FileProblem`` if the file is damaged or has no rows.
    """
    import pyarrow.parquet as pq
    from datasets import load_dataset

    path = file.path if file.packing is None else _unpack(file)
    try:
        footer = pq.read_metadata(path)
        if footer.num_rows == 0:
            raise FileProblem("the file has no rows")
        with quiet_libraries():
            table = load_dataset("parquet", data_files=str(path), split="train", name=file.digest())
    except FileProblem:
        raise
    except Exception as error:  # the reader behind `datasets` has its own errors
        cause = error.__cause__ or error
        what = str(cause).strip().splitlines()[0]
        raise FileProblem(f"cannot be read as Parquet; damaged or truncated ({what})") from error
    return FileRows(table, Part(file.name, len(table)))


def _unpack(file: DataFile) -> Path:
    """The path of a decompressed copy in the cache, shared by files with the same bytes."""
    folder = tables_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{file.digest()[:40]}.parquet"
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}.part")
        with open_bytes(file) as packed, part.open("wb") as out:
            shutil.copyfileobj(packed, out)
        part.replace(path)
    return path
