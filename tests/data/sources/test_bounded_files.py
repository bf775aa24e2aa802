"""Data files cannot fill memory or disk, or keep lorita waiting: what they unfold to has limits."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lorita.data.formats.cells import template_fields
from lorita.data.sources import open_file, parquet_files
from lorita.data.sources.load_source import load_source
from lorita.errors import DataError
from tests.command import write

WIDE = {
    "a header": ("a.csv", ",".join(f"c{i}" for i in range(20_000)) + "\na\n", "16,384 columns"),
    "commas": ("a.csv", "," * 10_000_000 + "\na\n", "16,384 columns"),
    "doubled": ("a.csv", ",".join(["a", "b"] * 8000) + "\na\n", "duplicate column names: a, b"),
    "keys of a row": ("a.jsonl", json.dumps(dict.fromkeys(map(str, range(30_000)), 1)), "columns"),
    "keys of rows": (
        "a.jsonl",
        "\n".join(f'{{"k{i}": "a"}}' for i in range(20_000)),
        "16,384 columns",
    ),
    "a key for each row": (
        "a.json",
        json.dumps([{f"k{i}": "a"} for i in range(10_000)]),
        "10,000 different keys",
    ),
    "keys given twice": (
        "a.jsonl",
        "{" + ",".join(f'"k{i}": 1' for i in range(50_000)) + ', "k9": 1}',
        "duplicate key 'k9'",
    ),
    "lists": (
        "a.json",
        json.dumps({f"k{i}": {f"l{j}": [{"text": "a"}] for j in range(50)} for i in range(200)}),
        "and 9,994 more",
    ),
    "deep lists": ("a.json", "[" * 500_000, "nested too deeply"),
    "deep objects": ("a.json", '{"a":' * 500_000, "nested too deeply"),
}


@pytest.mark.parametrize("name", WIDE)
def test_columns_and_keys(name: str, tmp_path: Path) -> None:
    file, text, said = WIDE[name]
    path = write(tmp_path / file, text)
    start = time.process_time()
    with pytest.raises(DataError, match=said) as caught:
        load_source(str(path))
    assert len(str(caught.value)) < 600
    assert time.process_time() - start < 15  # quadratic ones took minutes


def test_sparse_rows_that_are_not_too_many_are_read(tmp_path: Path) -> None:
    rows = [{"text": "a", f"k{i}": "b"} for i in range(300)]
    found = load_source(str(write(tmp_path / "a.json", json.dumps(rows))))
    assert len(found.columns) == 301


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes")
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "/dev/urandom"])
def test_what_is_no_file_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to(kind)
    with pytest.raises(DataError, match="not a regular file"):
        load_source(str(path))


@pytest.mark.parametrize("name", ["a.txt.gz", "a.csv.gz", "a.json.gz", "a.jsonl.zst"])
def test_blank_lines_by_the_million_are_seen_at_once(name: str, tmp_path: Path) -> None:
    packing = "gzip" if name.endswith("gz") else "zstd"
    with pa.output_stream(tmp_path / name, compression=packing) as out:
        for _ in range(80):
            out.write(b"\n" * 2**20)
    start = time.process_time()
    with pytest.raises(DataError, match="looks like a zip bomb"):
        load_source(str(tmp_path / name))
    assert time.process_time() - start < 5


def compressed(path: Path) -> None:
    table = pa.table({"text": ["a" * 1000] * 20_000})
    pq.write_table(table, path, use_dictionary=False, compression="zstd")


def repeated(path: Path) -> None:
    pq.write_table(pa.table({"text": ["a" * 1000] * 20_000}), path)


def repeated_in_lists(path: Path) -> None:
    pq.write_table(pa.table({"text": [["a" * 1000] * 10] * 2000}), path)


def numbers(path: Path) -> None:
    pq.write_table(pa.table({"n": pa.array([7] * 3_000_000, pa.int64())}), path)


@pytest.mark.parametrize("make", [compressed, repeated, repeated_in_lists, numbers])
def test_parquet_that_unpacks_a_thousandfold(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (open_file, parquet_files):
        monkeypatch.setattr(module, "BOMB_SIZE", 2**20)
    make(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="looks like a zip bomb"):
        load_source(str(tmp_path / "a.parquet"))


def test_parquet_of_few_words_is_read(tmp_path: Path) -> None:
    words = pa.table({"text": [f"row {i}" for i in range(5000)], "label": ["good"] * 5000})
    pq.write_table(words, tmp_path / "a.parquet")
    assert len(load_source(str(tmp_path / "a.parquet")).rows) == 5000


@pytest.mark.parametrize("form", [":>1000000000", ":{text}", ":.99999"])
def test_text_templates_pad_to_no_huge_width(form: str, tmp_path: Path) -> None:
    source = load_source(str(write(tmp_path / "a.csv", "text,b\nx,y\n")))
    with pytest.raises(DataError, match="the width of text is more than 9,999"):
        template_fields(source, f"say {{text{form}}}")
    assert template_fields(source, "say {text:>20}") == ["text"]
