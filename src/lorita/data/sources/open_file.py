"""Open a data file: type from its name, decompressed, decoded, line by line.

Neither a long line nor a compressed file can fill the memory. Problems are raised as
``FileProblem``, naming the line. What the lines mean is left to ``csv_files``, ``json_files`` and
``text_files``.
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
    ".arrow": "arrow",
    ".xlsx": "sheet",
    ".xlsm": "sheet",
    ".xlsb": "sheet",
    ".xls": "sheet",
    ".ods": "sheet",
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
}
"""File ending: the type of the content."""
PACKINGS = {".gz": "gzip", ".zst": "zstd"}
"""Second ending: how the file is compressed."""

LONGEST_ROW = 16 * 2**20
"""Characters of a line, cell or text; anything longer is a mistake, or not meant for one row."""
BOMB_SIZE, BOMB_RATIO = 64 * 2**20, 200
"""Decompression stops beyond both: this many bytes, and this many times the compressed size."""
SMALL = 4 * 2**20
"""Bytes of a compressed file up to which it is unpacked once, only to see how it grows."""

UNREAD = {
    ".numbers": "a Numbers document; export the table as CSV",
    ".gsheet": "a link to Google Sheets, without the cells; download the sheet as CSV",
    ".gdoc": "a link to Google Docs, without the text; download it as plain text",
    ".docx": "a Word document; save it as plain text (.txt)",
    ".doc": "a Word document; save it as plain text (.txt)",
    ".odt": "a text document; save it as plain text (.txt)",
    ".rtf": "rich text; save it as plain text (.txt)",
    ".pdf": "a PDF; extract its text first",
    ".epub": "an e-book; extract its text first",
    ".html": "a web page; extract its text first",
    ".htm": "a web page; extract its text first",
    ".xml": "XML; convert it to JSON Lines or CSV",
    ".yaml": "YAML; convert it to JSON Lines or CSV",
    ".yml": "YAML; convert it to JSON Lines or CSV",
    ".pkl": "a Python pickle, which can run code when it is read; save it as Parquet or JSON Lines",
    ".pickle": "a Python pickle, which can run code when it is read; save it as Parquet",
    ".pt": "a file of torch, not of rows; save the rows as JSON Lines",
    ".npy": "a numpy array; save the rows as JSON Lines",
    ".npz": "numpy arrays; save the rows as JSON Lines",
    ".feather": "a Feather file; rename it to .arrow",
    ".sqlite": "an SQLite database; export the table as CSV",
    ".db": "a database; export the table as CSV",
    ".zip": "a zip archive; unpack it and give the files or their folder",
    ".tar": "an archive; unpack it and give the files or their folder",
    ".tgz": "an archive; unpack it and give the files or their folder",
    ".7z": "an archive; unpack it and give the files or their folder",
    ".rar": "an archive; unpack it and give the files or their folder",
    ".bz2": "compressed with bzip2; decompress it first",
    ".xz": "compressed with xz; decompress it first",
}
"""Endings of files that people try, and what to do about them."""
POINTER = b"version https://git-lfs"
MAGIC = {
    b"\xff\xfe\x00\x00": "UTF-32 text; save it as UTF-8",
    POINTER: "a pointer of Git LFS, not the data; run: git lfs pull",
    b"PK\x03\x04": "a zip archive or an office document; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old office document; save it as CSV",
    b"%PDF": "a PDF; extract its text first",
    b"PAR1": "a Parquet file; rename it to .parquet",
    b"\x1f\x8b": "compressed with gzip; add .gz to its name",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; add .zst to its name",
    b"SQLite format 3": "an SQLite database; export the table as CSV",
}
"""First bytes of files that are not what their name says, and what to do about them."""


UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""The byte order marks of UTF-16, which Excel writes as "Unicode text"."""


DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""Files that describe a data set and hold no rows."""


class FileProblem(Exception):
    """A problem with a file. ``str()`` is the message; the caller adds the file's name."""


@dataclass(frozen=True)
class DataFile:
    """A file, its type (a value of ``KINDS``) and its compression (a value of ``PACKINGS``).

    ``name`` is what messages call it; ``note`` says what was found out about it from its content.
    """

    path: Path
    kind: str
    packing: str | None
    name: str
    note: str = ""

    def digest(self) -> str:
        """The SHA-256 of its bytes, as they are on disk."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
        return digest.hexdigest()


def data_file(path: Path, kind: str | None = None, name: str | None = None) -> DataFile:
    """The file at ``path``, its type taken from ``kind`` or its name.

    Raises ``FileProblem`` if it is missing, empty or of an unknown type.
    """
    if not path.exists():
        raise FileProblem("file not found")
    if not path.is_file():
        raise FileProblem("not a regular file; pipe what it gives into lorita, with --data -")
    if path.name in DESCRIPTIONS and kind is None:
        raise FileProblem("describes a data set and holds no rows; name the file with the rows")
    packing, found = kind_of(path)
    if (kind or found) is None:
        ending = "".join(path.suffixes[-2:]).lower()
        known = UNREAD.get(".tar" if ending.startswith(".tar.") else path.suffix.lower())
        if known is not None:
            raise FileProblem(f"this is {known}")
        raise FileProblem(
            f"unknown file type; lorita reads {', '.join(KINDS)}, each optionally followed by "
            f"{' or '.join(PACKINGS)}. Name the type with --file-type"
        )
    if path.stat().st_size == 0:
        raise FileProblem("the file is empty")
    with path.open("rb") as raw:
        if raw.read(len(POINTER)) == POINTER:
            raise FileProblem(f"this is {MAGIC[POINTER]}")
    return DataFile(path, str(kind or found), packing, name or str(path))


def kind_of(path: Path) -> tuple[str | None, str | None]:
    """Compression and type, as far as the file name tells; None for each that it does not."""
    endings = [ending.lower() for ending in path.suffixes]
    packing = PACKINGS.get(endings[-1]) if endings else None
    ending = endings[-2:-1] if packing else endings[-1:]
    return packing, KINDS.get(ending[0]) if ending else None


def open_bytes(file: DataFile) -> BinaryIO:
    """The decompressed bytes, as a stream."""
    if file.packing is None:
        return file.path.open("rb")
    return io.BufferedReader(_Unpacking(file), 2**18)


def check_unpacked(file: DataFile) -> None:
    """Raise ``FileProblem`` if a small compressed file grows like a zip bomb.

    Unpacking it once takes a moment; taking millions of blank lines apart until then would not.
    """
    if file.packing is not None and file.path.stat().st_size <= SMALL:
        with open_bytes(file) as raw:
            while raw.read(2**20):
                pass


def open_text(file: DataFile) -> io.TextIOWrapper:
    """The decoded text, line ends unchanged, without a byte order mark.

    Raises ``FileProblem`` if the first bytes belong to another type of file (``MAGIC``).
    """
    raw = open_bytes(file)
    start = raw.peek(16) if isinstance(raw, io.BufferedReader) else b""
    for magic, what in MAGIC.items():
        if start.startswith(magic):
            raw.close()
            raise FileProblem(f"this is {what}")
    encoding = "utf-16" if start.startswith(UTF_16) else "utf-8-sig"
    return io.TextIOWrapper(raw, encoding=encoding, newline="")


def lines_of(file: DataFile) -> Iterator[str]:
    """Every line with its line end.

    Raises ``FileProblem`` for a line that is too long or contains a NUL character.
    """
    number = 0
    with open_text(file) as text:
        while line := text.readline(LONGEST_ROW + 1):
            number += 1
            if len(line) > LONGEST_ROW:
                raise FileProblem(too_long(f"line {number}"))
            if "\0" in line:
                raise FileProblem(
                    f"line {number}: NUL character at column {line.index(chr(0)) + 1}; "
                    "this is not a text file, or not UTF-8"
                )
            yield line


def too_long(what: str) -> str:
    """The message for a line, cell or text that is longer than ``LONGEST_ROW``."""
    return (
        f"{what} is longer than {LONGEST_ROW // 2**20} million characters, too long for one row; "
        "split it into several rows"
    )


def no_utf8(file: DataFile, error: UnicodeDecodeError) -> str:
    """The message for a decoding error, with the line found by reading the file again."""
    if error.encoding.startswith("utf-16"):
        return "damaged UTF-16 text; save it as UTF-8"
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
    """A compressed file as a stream, stopped if it grows like a zip bomb."""

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
            raise FileProblem(f"cannot be decompressed; damaged or truncated ({error})") from None
        self._size += len(data)
        if self._size > max(BOMB_SIZE, BOMB_RATIO * self._packed):
            raise FileProblem(
                f"its {self._packed:,} bytes decompress to more than {BOMB_RATIO} times as much "
                f"({self._size:,} bytes so far), which looks like a zip bomb. If it is intended, "
                "decompress the file yourself first"
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
