"""A few bytes that claim to be a huge GGUF file are refused at once."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from lorita.errors import ModelError
from lorita.models import gguf_header
from lorita.models.gguf_files import open_whole
from lorita.models.gguf_header import FalseHeader, check_header
from tests.command import write


def text(value: str, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(value) if length is None else length) + value.encode()


def header(tensors: int, entries: int, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, entries) + rest


def array(kind: int, values: int) -> bytes:
    return text("a") + struct.pack("<IIQ", 9, kind, values)


def tensor(*shape: int, dimensions: int | None = None, offset: int = 0) -> bytes:
    count = len(shape) if dimensions is None else dimensions
    return text("t") + struct.pack(f"<I{len(shape)}QIQ", count, *shape, 0, offset)


FALSE = {
    "tensors": (header(2**40, 0), "tensors"),
    "entries": (header(0, 2**40), "values"),
    "a long name": (header(0, 1, text("a" * 9, 2**50)), "bytes more"),
    "a long text": (header(0, 1, text("a") + struct.pack("<I", 8) + text("b", 2**63)), "more"),
    "numbers": (header(0, 1, array(4, 2**32)), "values"),
    "bytes": (header(0, 1, array(0, 2**62)), "values"),
    "texts": (header(0, 1, array(8, 10**9)), "values"),
    "arrays": (header(0, 1, array(9, 10**9)), "values"),
    "arrays in arrays": (
        header(0, 1, text("a") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9),
        "unknown type 9",
    ),
    "no such type": (header(0, 1, text("a") + struct.pack("<I", 99)), "unknown type 99"),
    "a shape": (header(1, 0, tensor(2**40, 2**40)), "cannot be in a file"),
    "a shape that overflows": (header(1, 0, tensor(2**63, 2, 2**63, 2)), "cannot be in a file"),
    "dimensions": (header(1, 0, tensor(2, dimensions=10**9)), "dimensions"),
    "an offset": (header(1, 0, tensor(1, offset=2**60)), "cannot be in a file"),
    "an end": (header(1, 0), "ends within its header"),
}


@pytest.mark.parametrize("name", FALSE)
def test_false_claims(name: str, tmp_path: Path) -> None:
    content, said = FALSE[name]
    path = write(tmp_path / "a.gguf", content)
    start = time.monotonic()
    with pytest.raises(ModelError, match=rf"damaged or truncated \(.*{said}"):
        open_whole(path)
    assert time.monotonic() - start < 5


def test_many_values_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_header, "MOST_VALUES", 99)
    with pytest.raises(FalseHeader, match="the 99 that are read"):
        check_header(write(tmp_path / "a.gguf", header(0, 1, array(0, 1000) + b"\0" * 1000)))


@pytest.mark.parametrize("big_endian", [False, True])
def test_true_headers_pass(big_endian: bool, tmp_path: Path) -> None:
    from gguf import GGUFEndian

    path = tmp_path / "a.gguf"
    writer = GGUFWriter(path, "llama", endianess=GGUFEndian(int(big_endian)))
    writer.add_array("tokens", ["a", "b", "ñ"])
    writer.add_array("scores", [1.0, 2.0])
    writer.add_bool("yes", True)
    writer.add_tensor("x", np.zeros((4, 64), dtype=np.float32))
    for write_part in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{write_part}_to_file")()
    writer.close()
    check_header(path)
    assert len(GGUFReader(path).tensors) == 1
