"""Open a data file: its kind told from its name, unpacked, decoded, line by line.

No line and no packed file can fill the memory. What is wrong is a ``FileProblem`` that names the
line; what the lines mean is for ``csv_files.py``, ``json_files.py`` and ``text_files.py``.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

KINDS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
}
"""File ending: what is in the file."""
PACKINGS = {".gz": "gzip", ".zst": "zstd"}
"""Further ending: how it is packed."""

LONGEST_ROW = 16 * 2**20
"""Characters of a line, a cell or a text; more is a mistake, or not for one row."""
BOMB_SIZE, BOMB_RATIO = 64 * 2**20, 200
"""What unpacks to more than this, in bytes and in times its own size, is not unpacked further."""

MAGIC = {
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    b"PK\x03\x04": "a zip archive or an office document; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old office document; save it as CSV",
    b"%PDF": "a PDF; extract its text first",
    b"PAR1": "a Parquet file; call it .parquet",
    b"\x1f\x8b": "packed with gzip; add .gz to its name",
    b"\x28\xb5\x2f\xfd": "packed with zstd; add .zst to its name",
    b"SQLite format 3": "an SQLite database; export the table as CSV",
}
"""First bytes of files that are not what their name says."""


class FileProblem(Exception):
    """What is wrong with a file, without its name: ``str()`` is the message."""


@dataclass(frozen=True)
class DataFile:
    """A file, what is in it (a value of ``KINDS``), and how it is packed (of ``PACKINGS``)."""

    path: Path
    kind: str
    packing: str | None
    name: str

    def digest(self) -> str:
        """A hash of its bytes."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
        return digest.hexdigest()


def data_file(path: Path, kind: str | None = None, name: str | None = None) -> DataFile:
    """The file as its name, or ``kind``, says. ``FileProblem`` if it cannot be read."""
    if not path.exists():
        raise FileProblem("there is no such file")
    packing, found = kind_of(path)
    if (kind or found) is None:
        raise FileProblem(
            f"unknown file type; lorita reads {', '.join(KINDS)}, each also with "
            f"{' or '.join(PACKINGS)}. --file-type says what it is"
        )
    if path.stat().st_size == 0:
        raise FileProblem("the file is empty")
    return DataFile(path, str(kind or found), packing, name or str(path))


def kind_of(path: Path) -> tuple[str | None, str | None]:
    """Packing and kind that a file name says."""
    endings = [ending.lower() for ending in path.suffixes]
    packing = PACKINGS.get(endings[-1]) if endings else None
    ending = endings[-2:-1] if packing else endings[-1:]
    return packing, KINDS.get(ending[0]) if ending else None


def open_bytes(file: DataFile) -> BinaryIO:
    """The unpacked bytes."""
    if file.packing is None:
        return file.path.open("rb")
    return io.BufferedReader(_Unpacking(file), 2**18)


def open_text(file: DataFile) -> io.TextIOWrapper:
    """The text, with its line ends as they are; a byte order mark is left out."""
    raw = open_bytes(file)
    start = raw.peek(16) if isinstance(raw, io.BufferedReader) else b""
    for magic, what in MAGIC.items():
        if start.startswith(magic):
            raw.close()
            raise FileProblem(f"this is {what}")
    return io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")


def lines_of(file: DataFile) -> Iterator[str]:
    """Every line with its end. ``FileProblem`` for one that is too long or has NUL characters."""
    number = 0
    with open_text(file) as text:
        while line := text.readline(LONGEST_ROW + 1):
            number += 1
            if len(line) > LONGEST_ROW:
                raise FileProblem(too_long(f"line {number}"))
            if "\0" in line:
                raise FileProblem(
                    f"line {number}: a NUL character at column {line.index(chr(0)) + 1}; "
                    "this is no text file, or not in UTF-8"
                )
            yield line


def too_long(what: str) -> str:
    """What is said of a line, cell or text that is longer than ``LONGEST_ROW``."""
    return (
        f"{what} is longer than {LONGEST_ROW // 2**20} million characters, too much for one row; "
        "divide it into rows"
    )


def no_utf8(file: DataFile, error: UnicodeDecodeError) -> str:
    """Decoding fails in a chunk of unknown place: look for the line."""
    with open_bytes(file) as raw:
        number = 0
        while line := raw.readline(LONGEST_ROW):
            number += 1
            try:
                line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as here:
                found = line[here.start : here.end]
                return f"not UTF-8 (line {number}, bytes {found!r}); save it as UTF-8"
    return f"not UTF-8 (bytes {error.object[error.start : error.end]!r}); save it as UTF-8"


class _Unpacking(io.RawIOBase):
    """A packed file as it comes out, watched for growing beyond all measure."""

    def __init__(self, file: DataFile) -> None:
        self._packed = max(file.path.stat().st_size, 1)
        self._stream = _unpacked(file)
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        try:
            data = self._stream.read(len(view))
        except (EOFError, zlib.error, OSError) as error:
            raise FileProblem(f"cannot be unpacked, damaged or cut short ({error})") from None
        self._size += len(data)
        if self._size > max(BOMB_SIZE, BOMB_RATIO * self._packed):
            raise FileProblem(
                f"{self._packed:,} bytes that unpack to more than {BOMB_RATIO} times as much "
                f"({self._size:,} bytes so far): this looks like a zip bomb. If it is meant, "
                "unpack it first"
            )
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _unpacked(file: DataFile) -> Any:
    if file.packing == "gzip":
        return gzip.open(file.path, "rb")
    import pyarrow as pa

    return pa.input_stream(str(file.path), compression="zstd")
