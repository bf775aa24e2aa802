"""Parquet files as tables. Compressed ones are decompressed into the cache first."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.data.origin import Part
from lorita.data.sources.file_table import FileRows
from lorita.data.sources.open_file import (
    BOMB_RATIO,
    BOMB_SIZE,
    DataFile,
    FileProblem,
    open_bytes,
)
from lorita.errors import DataError
from lorita.storage import parts
from lorita.storage.cache import mark_used, tables_folder
from lorita.storage.disk import remove
from lorita.storage.private import is_own_folder, make_private, open_own, private_file
from lorita.system.quiet import quiet_libraries

if TYPE_CHECKING:
    from datasets import Dataset

WIDTH = 8
"""Bytes of a value in a table, at least about so many."""


def read_parquet(file: DataFile) -> FileRows:
    """The table of a Parquet file, read by ``datasets``.

    Raises ``FileProblem`` if the file is damaged or has no rows.
    """
    import pyarrow.parquet as pq

    path = file.path if file.packing is None else _unpack(file)
    try:
        footer = pq.read_metadata(path)
        if footer.num_rows == 0:
            raise FileProblem("the file has no rows")
        _refuse_bomb(path, footer)
        with quiet_libraries():
            table = _table(path, file.digest(), footer.num_rows)
    except (FileProblem, DataError):
        raise
    except Exception as error:  # the reader behind `datasets` has its own errors
        cause = error.__cause__ or error
        what = str(cause).strip().splitlines()[0]
        raise FileProblem(f"cannot be read as Parquet; damaged or truncated ({what})") from error
    return FileRows(table, Part(file.name, len(table)))


def _table(path: Path, digest: str, num_rows: int) -> Dataset:
    """The rows in the cache of ``datasets``, in a folder that only this user can read.

    What is damaged there is read from the file again.
    """
    from datasets import load_dataset

    place = tables_folder() / f"{digest[:40]}-parquet"
    where = {"data_files": str(path), "split": "train", "name": digest, "cache_dir": str(place)}
    if is_own_folder(place):
        with suppress(Exception):  # whatever a damaged file makes `datasets` raise
            table: Dataset = load_dataset("parquet", **where)
            if len(table) == num_rows:
                mark_used(place)
                return table
    remove(place)
    make_private(place)
    return load_dataset("parquet", **where)


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
    path = folder / f"{file.digest()[:40]}.parquet"
    with suppress(OSError), open_own(path):
        mark_used(path)
        return path
    with parts.Part(folder, "unpacked") as part:
        out = private_file(part.path / "data")
        with open_bytes(file) as packed, out:
            shutil.copyfileobj(packed, out)
        (part.path / "data").replace(path)
    return path
