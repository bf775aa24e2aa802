"""The same rows from every source: files, folders, patterns, compressed files, standard input."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lorita.data.formats.choose_format import Wanted
from lorita.data.formats.readers import read_rows
from lorita.data.rows import Chat, Text
from lorita.data.sources import open_file as opening
from lorita.data.sources.csv_dialect import find_dialect
from lorita.data.sources.find_files import data_name
from lorita.data.sources.load_source import load_source
from lorita.errors import DataError
from lorita.storage.cache import tables_folder

ROWS = [
    {"act": "cook", "prompt": 'Say "soup", please;\nTwo\tlines | and more.'},
    {"act": "poet", "prompt": "1"},
    {"act": "ñandú", "prompt": "NA"},
    {"act": "date", "prompt": "2024-01-01"},
]


def csv_text(**options: Any) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(ROWS[0]), **options)
    writer.writeheader()
    writer.writerows(ROWS)
    return out.getvalue().encode()


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), out)
    return out.getvalue()


LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
FILES: dict[str, bytes] = {
    "rows.csv": csv_text(),
    "rows.tsv": csv_text(delimiter="\t"),
    "semicolons.csv": csv_text(delimiter=";"),
    "bars.csv": csv_text(delimiter="|"),
    "tabs.csv": csv_text(delimiter="\t"),
    "single.csv": csv_text(quotechar="'", quoting=csv.QUOTE_ALL),
    "escaped.csv": csv_text(doublequote=False, escapechar="\\", quoting=csv.QUOTE_ALL),
    "mark.csv": b"\xef\xbb\xbf" + csv_text(),
    "rows.jsonl": LINES,
    "mark.jsonl": b"\xef\xbb\xbf" + LINES,
    "rows.ndjson": LINES.replace(b"\n", b"\r\n"),
    "rows.json": json.dumps(ROWS).encode(),
    "pretty.json": json.dumps(ROWS, indent=2).encode(),
    "lines.json": LINES,
    "list.jsonl": json.dumps(ROWS).encode(),
    "rows.parquet": parquet(),
    "rows.csv.gz": gzip.compress(csv_text()),
    "members.jsonl.gz": gzip.compress(LINES[:50]) + gzip.compress(LINES[50:]),
    "rows.json.zst": pa.compress(json.dumps(ROWS).encode(), codec="zstd", asbytes=True),
    "rows.parquet.gz": gzip.compress(parquet()),
    "ROWS.JSONL.ZST": pa.compress(LINES, codec="zstd", asbytes=True),
}


def texts(data: str | Path | list[str], wanted: Wanted | None = None, **options: Any) -> list[str]:
    source = load_source(data if isinstance(data, list) else str(data), **options)
    return [row.text for row in read_rows(source, wanted).rows if isinstance(row, Text)]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("name", FILES)
def test_every_file_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    both = Wanted(text_template="{act}: {prompt}")
    expected = [f"{row['act']}: {row['prompt']}" for row in ROWS]
    if name == "escaped.csv":  # where backslashes escape, they do so everywhere
        expected = [text.replace("\\n", "\n") for text in expected]
    assert texts(write(tmp_path / name, FILES[name]), both) == expected


def test_an_unusual_csv_dialect_is_reported(tmp_path: Path) -> None:
    source = load_source(str(write(tmp_path / "a.csv", FILES["semicolons.csv"])))
    said = read_rows(source, Wanted(text_field="prompt")).understood
    assert "semicolon-separated" in said
    assert load_source(str(write(tmp_path / "b.csv", FILES["rows.csv"]))).notes == ()


def test_a_single_column_is_not_split() -> None:
    assert find_dialect(["prompt\n", "one; two\n", "three\n"]).delimiter == ","
    assert find_dialect(["a;b\n", "1,5;2,5\n", "1,5;2\n"]).delimiter == ";"


def test_text_by_line_paragraph_and_file(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "\ufeffone\r\ntwo\r\n\r\n \r\nthree\r\n")
    assert texts(file) == ["one", "two", "three"]
    assert texts(file, text_unit="paragraph") == ["one\ntwo", "three"]
    assert texts(file, text_unit="file") == ["one\ntwo\n\n \nthree"]
    page = write(tmp_path / "b.md", "# Tea\n\nBoil water.\n")
    assert texts(page) == ["# Tea\n\nBoil water."]
    assert texts(page, text_unit="paragraph") == ["# Tea", "Boil water."]


def test_only_line_ends_separate_lines(tmp_path: Path) -> None:
    line = "a\u2028b\x0cc\x85d"
    assert texts(write(tmp_path / "a.txt", f"{line}\ne\n")) == [line, "e"]


def test_blank_lines_do_not_shift_line_numbers(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "one\n\n\ntwo\n")
    source = load_source(str(file))
    assert source.origin.places([1]) == [f"{file}: line 4"]
    assert "blank lines are skipped" in str(source.notes)


def test_rows_of_several_files_are_named_by_their_file(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", '{"text": "x"}\n{"text": "y"}\n')
    second = write(tmp_path / "b.jsonl", '{"text": "z"}\n{"text": ""}\n')
    with pytest.raises(DataError) as refused:
        texts([str(first), str(second)])
    assert f"{second}: row 2: the column 'text' is empty" in str(refused.value)


def test_folder(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", "two\n")
    write(tmp_path / "deeper" / "c.txt.gz", gzip.compress(b"three\n"))
    write(tmp_path / "a.txt", "one\n")
    write(tmp_path / "README.md", "What this is.\n")
    write(tmp_path / ".hidden.txt", "no\n")
    write(tmp_path / "picture.png", b"\x89PNG")
    source = load_source(str(tmp_path))
    assert source.rows["text"][:] == ["one", "two", "three"]
    assert source.notes == (f"{tmp_path}: skipped picture.png",)


def test_folder_with_splits(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", '{"text": "a"}\n')
    write(tmp_path / "test.jsonl", '{"text": "b"}\n')
    assert texts(tmp_path) == ["a"]
    assert texts(tmp_path, split="test") == ["b"]
    with pytest.raises(DataError, match="split 'dev'"):
        texts(tmp_path, split="dev")


def test_hub_style_folder(tmp_path: Path) -> None:
    write(tmp_path / "README.md", "---\nconfigs: []\n---\n# Rows\n")
    write(tmp_path / "data" / "train-00000-of-00001.parquet", FILES["rows.parquet"])
    write(tmp_path / "data" / "test-00000-of-00001.parquet", FILES["rows.parquet"])
    assert texts(tmp_path, Wanted(text_field="act")) == [row["act"] for row in ROWS]


def test_pattern_and_mixed_kinds(tmp_path: Path) -> None:
    write(tmp_path / "x" / "a.csv", "text\none\n")
    write(tmp_path / "y" / "b.jsonl", '{"text": "two"}\n')
    write(tmp_path / "y" / "c.parquet", pq_texts("three"))
    assert texts(tmp_path / "*" / "*") == ["one", "two", "three"]
    assert texts(tmp_path / "**" / "*.csv") == ["one"]
    write(tmp_path / "odd[1].csv", "text\nfour\n")
    assert texts(tmp_path / "odd[1].csv") == ["four"]


def pq_texts(*rows: str) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"text": list(rows)}), out)
    return out.getvalue()


def test_columns_in_a_different_order_and_of_a_different_type(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    first = write(tmp_path / "a.jsonl", json.dumps({"id": 1, "messages": turns}))
    second = write(tmp_path / "b.jsonl", json.dumps({"messages": json.dumps(turns), "id": "x"}))
    rows = read_rows(load_source([str(first), str(second)])).rows
    assert rows[0] == rows[1]
    assert isinstance(rows[0], Chat)


def test_json_values_are_kept_exactly(tmp_path: Path) -> None:
    """Tool calls of different shapes and exact numbers: no row is changed to fit another."""
    calls = [{"x": 0.1234567890123456, "y": None}, {"city": ["a"], "n": 12345678901234567890123}]
    rows = [{"text": "a", "call": call} for call in calls]
    file = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert load_source(str(file)).cells([1, 0])["call"] == calls[::-1]


def test_a_list_longer_than_one_read(tmp_path: Path) -> None:
    rows = [{"text": f"{i} " + 'ñ\\" [{,}]' * (i % 700)} for i in range(400)]
    file = write(tmp_path / "a.json", json.dumps(rows, indent=1))
    assert file.stat().st_size > 4 * 2**18
    assert texts(file) == [row["text"] for row in rows]


PIPED = {
    "jsonl": (LINES, "json"),
    "csv": (FILES["rows.csv"], "csv"),
    "packed": (FILES["rows.csv.gz"], "csv"),
    "parquet": (FILES["rows.parquet"], "parquet"),
}


@pytest.mark.parametrize("case", PIPED)
def test_standard_input(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content, kind = PIPED[case]
    pipe(monkeypatch, content)
    source = load_source("-")
    assert source.cells([0, 2])["act"] == ["cook", "ñandú"]
    assert source.notes[0] == f"standard input is read as {kind} (--file-type)"
    assert str(source.origin) == "standard input"


def test_standard_input_of_text(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b"Tea, please.\nNo, water.\n")
    assert texts("-", file_type="text") == ["Tea, please.", "No, water."]
    pipe(monkeypatch, b"one\ntwo\n")
    assert texts("-") == ["one", "two"]


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_file_type_for_a_name_without_a_known_ending(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.data", "text\none\n")
    assert texts(file, file_type="csv") == ["one"]


def test_names_of_runs() -> None:
    named = {"-": "stdin", "data/*.csv": "data", "a/rows.csv.gz": "rows", "someone/set": "set"}
    assert {item: data_name(item) for item in named} == named


def test_batches_and_single_rows_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "a.txt", "".join(f"line {i}\n" for i in range(2500)))
    rows = read_rows(load_source(str(file))).rows
    assert list(rows) == [Text(f"line {i}") for i in range(2500)]
    assert rows[1234] == Text("line 1234")
    assert list(rows[10:13]) == [Text(f"line {i}") for i in (10, 11, 12)]
    assert rows[-1] == Text("line 2499")
    with pytest.raises(IndexError):
        rows[2500]


def test_a_bad_file_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    def kept() -> set[str]:
        return {path.name for path in tables_folder().glob("*")}

    before = kept() if tables_folder().exists() else set()
    file = write(tmp_path / "a.csv", "a,b\n" + "1,2\n" * 3000 + "1\n")
    with pytest.raises(DataError, match="line 3002"):
        load_source(str(file))
    assert kept() == before


def test_limits_are_on_characters_of_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (opening, *map(sys.modules.get, LIMITED)):
        monkeypatch.setattr(module, "LONGEST_ROW", 1000)
    good = write(tmp_path / "a.txt", "x" * 999 + "\n" + "y" * 999)
    assert [len(text) for text in texts(good)] == [999, 999]
    with pytest.raises(DataError, match="that starts on line 1"):
        texts(good, text_unit="file")


LIMITED = (
    "lorita.data.sources.text_files",
    "lorita.data.sources.csv_dialect",
    "lorita.data.sources.json_files",
)
