"""The header of a GGUF file: whether it can be true, and where everything is.

A few bytes may claim billions of values, which nobody should make one by one. Only places are kept;
values are made when asked for. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_VALUES = 5_000_000
"""Values in the metadata, tokens and merges included; large vocabularies have a million."""
MOST_TENSORS = 100_000
MOST_DIMENSIONS, DEEPEST = 4, 4
"""Dimensions of a tensor, as in ggml; arrays inside arrays."""
ELEMENTS_PER_BYTE = 8
"""No number format packs more elements into a byte than one bit each."""
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_FORMS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
VERSIONS = (2, 3)
ALIGNMENT = 32
"""Bytes to which the tensors are aligned unless the file says otherwise."""


class FalseHeader(ValueError):
    """The header claims what the file cannot hold; ``str()`` says what."""


@dataclass(frozen=True)
class TensorPlace:
    """A tensor as the header describes it: ``shape`` as torch has it, ``offset`` from ``start``."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class Entry:
    """One entry of the metadata: it begins with its key, its value is from ``place`` to ``end``."""

    kind: int
    begin: int
    place: int
    end: int


def check_header(path: Path) -> None:
    """Raise ``FalseHeader`` unless all that the header claims can be in the file."""
    with map_file(path) as data:
        read_header(data)


def map_file(path: Path) -> mmap.mmap:
    """The file's bytes, read when they are looked at; ``FalseHeader`` if it is empty."""
    with path.open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise FalseHeader("the file is empty") from None


def read_header(data: mmap.mmap) -> Header:
    """The header of a mapped file, all of whose claims have been checked against its size."""
    header = Header(data)
    try:
        header.read()
    except struct.error:
        raise FalseHeader("it ends within its header") from None
    return header


class Header:
    """What is where in a file; ``place`` is where the walk through it is.

    ``entries`` are those of the metadata by key, ``tensors`` all tensors, and ``start`` is where
    the tensors' bytes begin.
    """

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place, self.values = data, 4, 0
        self.order = "<"
        self.entries: dict[str, Entry] = {}
        self.tensors: list[TensorPlace] = []
        self.start = 0

    @property
    def is_big_endian(self) -> bool:
        """Whether the bytes of each number are the other way round."""
        return self.order == ">"

    def read(self) -> None:
        """Walk through the header; ``FalseHeader`` or ``struct.error`` where it cannot be true."""
        if self.number("I") & 0xFFFF == 0:  # the version, with its bytes the other way round
            self.order = ">"
        (version,) = self._unpack("I", 4)
        if version not in VERSIONS:
            raise FalseHeader(f"it is of version {version} of the format, which is not read")
        tensors, entries = self.number("Q"), self.number("Q")
        if tensors > MOST_TENSORS:
            raise FalseHeader(f"it claims {tensors:,} tensors; at most {MOST_TENSORS:,} are read")
        self.count(entries, 12)
        for _ in range(entries):
            begin = self.place
            key, kind = self.name(), self.number("I")
            place = self.place
            self.value(kind)
            self.entries[key] = Entry(kind, begin, place, self.place)
        for _ in range(tensors):
            self.tensors.append(self.tensor())
        step = self.get("general.alignment", ALIGNMENT)
        step = step if isinstance(step, int) and step > 0 else ALIGNMENT
        self.start = -(-self.place // step) * step

    def get(self, key: str, default: Any = None) -> Any:
        """A value of the metadata: a number, a text or a list of them; UnicodeDecodeError."""
        if key not in self.entries:
            return default
        value, _ = self._made(self.entries[key].kind, self.entries[key].place)
        return value

    def entry_bytes(self, key: str) -> bytes:
        """A whole entry as it is in the file: key, kind and value."""
        entry = self.entries[key]
        return bytes(self.data[entry.begin : entry.end])

    def is_array(self, key: str) -> bool:
        """Whether an entry holds several values."""
        return self.entries[key].kind == _ARRAY

    def inner_kind(self, key: str) -> int | None:
        """The kind of an array's values; None for an entry that is no array."""
        return self._unpack("I", self.entries[key].place)[0] if self.is_array(key) else None

    def _unpack(self, form: str, place: int) -> tuple[Any, ...]:
        return struct.unpack_from(self.order + form, self.data, place)

    def _made(self, kind: int, place: int) -> tuple[Any, int]:
        """A value, and where it ends."""
        if kind == _STRING:
            (size,) = self._unpack("Q", place)
            end = place + 8 + size
            return str(self.data[place + 8 : end], "utf-8"), end
        if kind != _ARRAY:
            return self._unpack(_FORMS[kind], place)[0], place + _SIZES[kind]
        inner, count = self._unpack("IQ", place)
        place += 12
        if inner in _FORMS:
            return list(self._unpack(f"{count}{_FORMS[inner]}", place)), place + count * _SIZES[
                inner
            ]
        values = []
        for _ in range(count):
            value, place = self._made(inner, place)
            values.append(value)
        return values, place

    def number(self, form: str) -> int:
        """The number here, of this form of ``struct``; ``struct.error`` at the file's end."""
        size = struct.calcsize(form)
        (value,) = struct.unpack_from(self.order + form, self.data, self.place)
        self.place += size
        return int(value)

    def skip(self, size: int) -> None:
        """Go on by so many bytes; ``FalseHeader`` if the file has fewer."""
        if size > len(self.data) - self.place:
            raise FalseHeader(
                f"at byte {self.place:,} it claims {size:,} bytes more, but the file ends after "
                f"{len(self.data) - self.place:,}"
            )
        self.place += size

    def text(self) -> None:
        """Skip a text."""
        self.skip(self.number("Q"))

    def texts(self, count: int) -> None:
        """Skip a vocabulary: as ``text``, without a call for each of its hundred thousands."""
        size_at = struct.Struct(self.order + "Q").unpack_from
        data, place, end = self.data, self.place, len(self.data)
        for _ in range(count):
            (size,) = size_at(data, place)
            if size > end - place - 8:
                self.place = place + 8
                self.skip(size)
            place += 8 + size
        self.place = place

    def name(self) -> str:
        """The text here, which may be anything."""
        begin = self.place + 8
        self.text()
        return str(self.data[begin : self.place], "utf-8", "replace")

    def count(self, values: int, least: int) -> None:
        """Count values of at least so many bytes each."""
        self.values += values
        if self.values > MOST_VALUES or values * least > len(self.data) - self.place:
            raise FalseHeader(
                f"it claims {values:,} values at byte {self.place:,}, more than the file holds or "
                f"the {MOST_VALUES:,} that are read"
            )

    def value(self, kind: int, depth: int = 0) -> None:
        """Skip a value of the metadata."""
        if kind == _STRING:
            self.text()
        elif kind == _ARRAY and depth < DEEPEST:
            inner, values = self.number("I"), self.number("Q")
            size = _SIZES.get(inner)
            self.count(values, size or 8)
            if size is not None:
                self.skip(values * size)
                return
            if inner == _STRING:
                self.texts(values)
                return
            for _ in range(values):
                self.value(inner, depth + 1)
        elif kind in _SIZES:
            self.skip(_SIZES[kind])
        else:
            raise FalseHeader(f"at byte {self.place:,} there is a value of unknown type {kind}")

    def tensor(self) -> TensorPlace:
        """The tensor described here."""
        name, dimensions = self.name(), self.number("I")
        if dimensions > MOST_DIMENSIONS:
            raise FalseHeader(f"a tensor has {dimensions:,} dimensions")
        shape = [self.number("Q") for _ in range(dimensions)]
        kind = self.number("I")
        offset = self.number("Q")
        room = len(self.data)
        if math.prod(shape) > room * ELEMENTS_PER_BYTE or offset > room:
            raise FalseHeader(
                f"a tensor of shape {' x '.join(map(str, shape))} cannot be in a file of "
                f"{room:,} bytes: it is truncated or damaged"
            )
        return TensorPlace(name, tuple(reversed(shape)), kind, offset)
