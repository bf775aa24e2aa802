"""Parquet files as tables. Compressed ones are decompressed into the cache first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lorita.data.origin import Part
from lorita.data.sources.file_table import FileRows
from lorita.data.sources.open_file import (
    BOMB_RATIO,
    BOMB_SIZE,
    DataFile,
    FileProblem,
    open_bytes,
)
from lorita.storage.cache import tables_folder
from lorita.system.quiet import quiet_libraries

WIDTH = 8
"""Bytes of a value in a table, at least about so many."""


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
        _refuse_bomb(path, footer)
        with quiet_libraries():
            table = load_dataset("parquet", data_files=str(path), split="train", name=file.digest())
    except FileProblem:
        raise
    except Exception as error:  # the reader behind `datasets` has its own errors
        cause = error.__cause__ or error
        what = str(cause).strip().splitlines()[0]
        raise FileProblem(f"cannot be read as Parquet; damaged or truncated ({what})") from error
    return FileRows(table, Part(file.name, len(table)))


def _refuse_bomb(path: Path, footer: Any) -> None:
    """Raise ``FileProblem`` for a file that grows like a zip bomb.

    Pages may be compressed, and a value of a dictionary repeated for almost nothing. So a column
    of texts with hardly any bytes for each is measured before it is unpacked.
    """
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
    size = sum(max(c.total_uncompressed_size, WIDTH * c.num_values) for c in chunks)
    repeated = {
        chunk.path_in_schema
        for chunk in chunks
        if chunk.physical_type == "BYTE_ARRAY"
        and chunk.total_uncompressed_size < WIDTH * chunk.num_values
        and chunk.total_uncompressed_size * chunk.num_values > BOMB_SIZE
    }
    packed = path.stat().st_size
    most = max(BOMB_SIZE, BOMB_RATIO * packed)
    for text in _lengths(path, sorted(repeated)) if size <= most else ():
        size += text
        if size > most:
            break
    if size > most:
        raise FileProblem(
            f"its {packed:,} bytes unpack to {size:,} or more, over {BOMB_RATIO} times as much, "
            "which looks like a zip bomb"
        )


def _lengths(path: Path, columns: Sequence[str]) -> Iterator[int]:
    """The bytes of these columns of texts, batch by batch, without repeating any text."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if not columns:
        return
    with pq.ParquetFile(path, read_dictionary=list(columns)) as file:
        for batch in file.iter_batches(columns=list(columns)):
            for column in batch.columns:
                while isinstance(column, (pa.ListArray, pa.LargeListArray)):
                    column = column.flatten()
                if isinstance(column, pa.DictionaryArray):
                    lengths = pc.take(pc.binary_length(column.dictionary), column.indices)
                    yield pc.sum(pc.cast(lengths, pa.int64())).as_py() or 0
                else:
                    yield column.nbytes


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
