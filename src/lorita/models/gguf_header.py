"""Whether the header of a GGUF file can be true, before the gguf package believes it.

A few bytes may claim billions of values, which the package would make one by one. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path

MOST_VALUES = 5_000_000
"""Values in the metadata, tokens and merges included; large vocabularies have a million."""
MOST_TENSORS = 100_000
MOST_DIMENSIONS, DEEPEST = 4, 4
"""Dimensions of a tensor, as in ggml; arrays inside arrays."""
ELEMENTS_PER_BYTE = 8
"""No number format packs more elements into a byte than one bit each."""
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9


class FalseHeader(ValueError):
    """The header claims what the file cannot hold; ``str()`` says what."""


def check_header(path: Path) -> None:
    """Raise ``FalseHeader`` unless all that the header claims can be in the file."""
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise FalseHeader("the file is empty") from None
        with data:
            try:
                _Header(data).check()
            except struct.error:
                raise FalseHeader("it ends within its header") from None


class _Header:
    """A walk through the header; ``place`` is where it is."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place, self.values = data, 4, 0
        self.order = "<"
        if self.number("I") & 0xFFFF == 0:  # a version number with its bytes the other way round
            self.order = ">"

    def check(self) -> None:
        tensors, entries = self.number("Q"), self.number("Q")
        if tensors > MOST_TENSORS:
            raise FalseHeader(f"it claims {tensors:,} tensors; at most {MOST_TENSORS:,} are read")
        self.count(entries, 12)
        for _ in range(entries):
            self.text()
            self.value(self.number("I"))
        for _ in range(tensors):
            self.text()
            self.tensor()

    def number(self, form: str) -> int:
        size = struct.calcsize(form)
        (value,) = struct.unpack_from(self.order + form, self.data, self.place)
        self.place += size
        return int(value)

    def skip(self, size: int) -> None:
        if size > len(self.data) - self.place:
            raise FalseHeader(
                f"at byte {self.place:,} it claims {size:,} bytes more, but the file ends after "
                f"{len(self.data) - self.place:,}"
            )
        self.place += size

    def text(self) -> None:
        self.skip(self.number("Q"))

    def count(self, values: int, least: int) -> None:
        """Count values of at least so many bytes each."""
        self.values += values
        if self.values > MOST_VALUES or values * least > len(self.data) - self.place:
            raise FalseHeader(
                f"it claims {values:,} values at byte {self.place:,}, more than the file holds or "
                f"the {MOST_VALUES:,} that are read"
            )

    def value(self, kind: int, depth: int = 0) -> None:
        if kind == _STRING:
            self.text()
        elif kind == _ARRAY and depth < DEEPEST:
            inner, values = self.number("I"), self.number("Q")
            size = _SIZES.get(inner)
            self.count(values, size or 8)
            if size is not None:
                self.skip(values * size)
                return
            for _ in range(values):
                self.value(inner, depth + 1)
        elif kind in _SIZES:
            self.skip(_SIZES[kind])
        else:
            raise FalseHeader(f"at byte {self.place:,} there is a value of unknown type {kind}")

    def tensor(self) -> None:
        dimensions = self.number("I")
        if dimensions > MOST_DIMENSIONS:
            raise FalseHeader(f"a tensor has {dimensions:,} dimensions")
        shape = [self.number("Q") for _ in range(dimensions)]
        self.number("I")
        offset = self.number("Q")
        room = len(self.data)
        if math.prod(shape) > room * ELEMENTS_PER_BYTE or offset > room:
            raise FalseHeader(
                f"a tensor of shape {' x '.join(map(str, shape))} cannot be in a file of "
                f"{room:,} bytes: it is truncated or damaged"
            )
