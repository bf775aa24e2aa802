"""Malformed data files and chats, each with parts of the message that it must cause."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Make = bytes | dict[str, bytes] | Callable[[Path], None] | None
"""The file's content, several files, a function that creates them, or nothing at all."""
Case = tuple[str, Make, list[str]]
"""The ``--data`` value within the folder, the files in it, and parts of the expected message."""


def table(path_of: str = "a.parquet", **columns: Any) -> Callable[[Path], None]:
    return lambda folder: pq.write_table(pa.table(columns), folder / path_of)


def cut_parquet(folder: Path) -> None:
    table(text=[f"text number {i}" for i in range(1000)])(folder)
    whole = (folder / "a.parquet").read_bytes()
    (folder / "a.parquet").write_bytes(whole[: len(whole) // 2])


def damaged_parquet(folder: Path) -> None:
    pq.write_table(
        pa.table({"text": [f"text {i * 7919}" for i in range(5000)]}),
        folder / "a.parquet",
        compression="zstd",
        use_dictionary=False,
    )
    whole = bytearray((folder / "a.parquet").read_bytes())
    whole[200:600] = b"\xff" * 400
    (folder / "a.parquet").write_bytes(whole)


def doubled_parquet(folder: Path) -> None:
    schema = pa.schema([("text", pa.string()), ("text", pa.string())])
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, schema=schema), folder / "a.parquet")


def chat(*turns: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"messages": list(turns), **more}).encode() + b"\n"


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


GOOD = chat(turn("user", "a"), turn("assistant", "b"))
SEVERAL_LINES = b'{"text": "a"}\n'

FILES: dict[str, Case] = {
    # what is named
    "missing": ("a.csv", None, ["a.csv: file not found"]),
    "missing folder": ("none/", None, ["file not found"]),
    "unknown type": ("a.dat", b"x", ["a.dat: unknown file type", ".parquet", "--file-type"]),
    "a word document": ("a.docx", b"x", ["a.docx: this is a Word document; save it as plain"]),
    "an archive": ("a.tar.gz", b"x", ["a.tar.gz: this is an archive; unpack it"]),
    "no ending": ("rows", b"x", ["rows: unknown file type"]),
    "empty folder": ("sub", lambda p: (p / "sub").mkdir(), ["sub: no data files in this folder"]),
    "folder without data": (
        "sub",
        {"sub/a.png": b"x", "sub/b.exe": b"y"},
        ["sub: no data files in this folder (2 files of other types)"],
    ),
    "folder without the split": (
        "sub",
        {"sub/test.csv": b"text\na\n", "sub/validation.csv": b"text\na\n"},
        ["this folder has no split 'train' (found: ", "test", "validation"],
    ),
    "pattern that matches nothing": ("*.csv", None, ["*.csv: no file matches this pattern"]),
    "pattern with a folder": ("s*", lambda p: (p / "sub").mkdir(), ["no file matches"]),
    "other columns": (
        "*.csv",
        {"a.csv": b"text\na\n", "b.csv": b"title,text\na,b\n"},
        ["b.csv: its columns are title, text, but those of", "a.csv are text", "same columns"],
    ),
    "one broken file of two": (
        "*.csv",
        {"a.csv": b"text\na\n", "b.csv": b"text\na,b\n"},
        ["b.csv: line 2: 2 fields, but the header has 1"],
    ),
    "two broken files": (
        "*.csv",
        {"a.csv": b"", "b.csv": b"text\na,b\n"},
        ["a.csv: the file is empty"],
    ),
    # bytes
    "empty file": ("a.csv", b"", ["a.csv: the file is empty"]),
    "broken bytes": (
        "a.csv",
        b"act,text\nx,caf\xe9\n",
        ["a.csv: not UTF-8 (line 2, bytes b'\\xe9')", "save it as UTF-8"],
    ),
    "broken bytes far down": (
        "a.txt",
        b"text\n" * 50_000 + b"\xff\xfe\n",
        ["a.txt: not UTF-8 (line 50001"],
    ),
    "broken bytes in json": ("a.jsonl", SEVERAL_LINES + b'{"text": "\xc3"}\n', ["line 2, bytes"]),
    "broken bytes in a json list": ("a.json", b'[{"text": "\xc3("}]', ["not UTF-8 (line 1"]),
    "half a letter at the end": ("a.txt", b"caf\xc3", ["not UTF-8 (line 1"]),
    "utf-32 with its mark": ("a.csv", "text\na\n".encode("utf-32"), ["UTF-32 text; save it as"]),
    "utf-16 cut": ("a.csv", "text\na\n".encode("utf-16")[:-1], ["damaged UTF-16 text"]),
    "utf-16 without a mark": ("a.txt", "text\n".encode("utf-16-le"), ["line 1: NUL character"]),
    "a mark alone": ("a.txt", b"\xef\xbb\xbf", ["a.txt: the file contains no text"]),
    "null characters": ("a.csv", b"text\na\0b\n", ["line 2: NUL character at column 2"]),
    "an excel sheet": ("a.csv", b"PK\x03\x04rest", ["a zip archive or an office document"]),
    "a pdf": ("a.txt", b"%PDF-1.7 x", ["a PDF; extract its text"]),
    "parquet called csv": ("a.csv", b"PAR1xxxxPAR1", ["a Parquet file; rename it to .parquet"]),
    "packed without saying so": ("a.csv", gzip.compress(b"text\na\n"), ["add .gz to its name"]),
    # packed files
    "not packed": ("a.csv.gz", b"text\na\n", ["a.csv.gz: cannot be decompressed", "damaged"]),
    "cut gzip": (
        "a.csv.gz",
        gzip.compress(os.urandom(5000).hex().encode())[:-2000],
        ["a.csv.gz: cannot be decompressed; damaged or truncated"],
    ),
    "damaged gzip": (
        "a.txt.gz",
        gzip.compress(b"text\n" * 99)[:-8] + b"\0" * 8,
        ["a.txt.gz: cannot be decompressed"],
    ),
    "cut zstd": (
        "a.txt.zst",
        pa.compress(os.urandom(5000).hex().encode(), "zstd", asbytes=True)[:-200],
        ["a.txt.zst: cannot be decompressed"],
    ),
    "packed nothing": ("a.txt.gz", gzip.compress(b""), ["a.txt.gz: the file contains no text"]),
    # CSV
    "header only": ("a.csv", b"act,text\n", ["a.csv: the file has a header but no rows"]),
    "short row": ("a.csv", b"act,text\na,b\nc\n", ["line 3: 1 field, but the header has 2"]),
    "long row": ("a.csv", b"act,text\na,b,c\n", ["line 2: 3 fields, but", "2 (act, text)"]),
    "ragged rows, many": (
        "a.csv",
        b"act,text\n" + b"a\n" * 99,
        ["line 2: 1 field", "line 6: 1 field", "and more problems like these"],
    ),
    "open quote": ("a.csv", b'"act",text\na,b\na,"b\n', ["line 3: a quote that opens here is"]),
    "letters after a quote": ("a.csv", b'"act",text\na,"b"c\n', ["line 2: broken quoting"]),
    "doubled columns": ("a.csv", b"text,text\na,b\n", ["line 1: duplicate column names: text"]),
    "no header": (
        "a.csv",
        b'act,"' + b"long words " * 20 + b'"\na,b\n',
        ["line 1: this is a data row, not column names"],
    ),
    "wrong delimiter": (
        "a.csv",
        b"text\nTea, please\n",
        ["line 2: 2 fields, but the header has 1 (text); quote any text that contains a comma"],
    ),
    "two delimiters": ("a.csv", b"act,text\na;b\nc;d\n", ["line 2: 1 field, but the header has 2"]),
    "tsv with commas": ("a.tsv", b"text\nx\ty\n", ["line 2: 2 fields", "that contains a tab"]),
    "no such column": ("a.csv", b"act,title\na,b\n", ["no column 'text'", "are act, title"]),
    "empty rows": (
        "a.csv",
        b"act,text\na,b\nc,\nd,  \n",
        ["a.csv: rows 2, 3: the column 'text' is empty", "Remove the empty rows, or fill them in"],
    ),
    # JSON
    "broken json line": (
        "a.jsonl",
        SEVERAL_LINES + b'{"text": \n',
        ["a.jsonl: line 2: not valid JSON: Expecting value at column"],
    ),
    "several broken lines": (
        "a.jsonl",
        b'{"text"}\n' + SEVERAL_LINES + b"{text: 1}\n",
        ["line 1: not valid JSON", "line 3: not valid JSON"],
    ),
    "json with single quotes": ("a.jsonl", b"{'text': 'a'}\n", ["line 1: not valid JSON"]),
    "json line, no object": (
        "a.jsonl",
        b'"a"\n',
        ["line 1: expected an object whose keys are columns, found a string"],
    ),
    "json line, a list": ("a.jsonl", SEVERAL_LINES + b"[1]\n", ["line 2: expected", "a list"]),
    "key given twice": ("a.jsonl", b'{"text": "a", "text": "b"}\n', ["line 1", "duplicate key 't"]),
    "not a number": ("a.jsonl", b'{"text": NaN}\n', ["line 1: not valid JSON: NaN is not"]),
    "half a character": ("a.jsonl", b'{"text": "\\ud83d"}\n', ["line 1: incomplete char"]),
    "nested too deeply": ("a.jsonl", b"[" * 100 + b'{"a":' * 10**5 + b"\n", ["not valid JSON"]),
    "deep line": ("a.jsonl", b'{"a":' * 10**5 + b"\n", ["line 1: not valid JSON"]),
    "empty object": ("a.jsonl", b"{}\n", ["line 1: empty object"]),
    "an object without rows": ("a.json", b'{\n "a": 1,\n "b": {}\n}\n', ["keys a, b, and no list"]),
    "broken json": ("a.json", b'[{"text": "a"},\n{]', ["a.json: line 2: not valid JSON"]),
    "list not closed": ("a.json", b'[{"text": "a"},\n{"text": "b"}\n', ["truncated"]),
    "comma at the end": ("a.json", b'[{"text": "a"},\n]', ["line 2", "a comma before the closing"]),
    "no comma": ("a.json", b'[{"text": "a"}\n{"text": "b"}]', ["line 2", "expected , or ]"]),
    "more after the list": ("a.json", b'[{"text": "a"}]\n[]', ["line 2: extra content after"]),
    "list of numbers": ("a.json", b"[1, 2]", ["row 1 (line 1): expected an object", "a number"]),
    "empty list": ("a.json", b"[]", ["a.json: the file has no rows"]),
    "blank json": ("a.jsonl", b"\n \n", ["a.jsonl: the file has no rows"]),
    "row without the key": ("a.jsonl", SEVERAL_LINES + b'{"id": 1}\n', ["row 2: the column"]),
    "a list for a text": (
        "a.jsonl",
        SEVERAL_LINES + b'{"text": ["a"]}\n',
        ["row 2: the column 'text' does not hold text (found l", "Name a column that holds text"],
    ),
    "an object for a text": ("a.jsonl", b'{"text": {"a": 1}}\n', ["row 1", "(found dict)"]),
    "null for a text": ("a.jsonl", SEVERAL_LINES + b'{"text": null}\n', ["row 2", "is empty"]),
    # Parquet
    "no parquet": ("a.parquet", b"PAR1xxxx", ["a.parquet: cannot be read as Parquet"]),
    "parquet cut in half": ("a.parquet", cut_parquet, ["a.parquet: cannot be read as Parquet"]),
    "parquet damaged inside": ("a.parquet", damaged_parquet, ["a.parquet: cannot be read as"]),
    "parquet without rows": ("a.parquet", table(text=pa.array([], pa.string())), ["has no rows"]),
    "doubled columns in parquet": ("a.parquet", doubled_parquet, ["a.parquet: ", "text"]),
    "NaN cells": ("a.parquet", table(text=[1.5, float("nan")]), ["row 2: the column 'text' is"]),
    "bytes for texts": ("a.parquet", table(text=[b"a"]), ["row 1: the column 'text'", "bytes"]),
    # text
    "empty text": ("a.txt", b"\n \n", ["a.txt: the file contains no text"]),
    "empty markdown": ("a.md", b"\n\n", ["a.md: the file contains no text"]),
    "blank text": ("a.txt", b" \t\r\n", ["a.txt: the file contains no text"]),
}  # fmt: skip

CHATS: dict[str, tuple[bytes, list[str]]] = {
    "no assistant": (chat(turn("user", "a")), ["row 2: no assistant turn"]),
    "assistant first": (chat(turn("assistant", "a")), ["row 2: the assistant speaks first"]),
    "no role": (chat({"content": "a"}, turn("assistant", "b")), ["row 2: message 1 has no role"]),
    "unknown role": (
        chat(turn("narrator", "a"), turn("assistant", "b")),
        ["row 2: message 1: unknown role 'narrator' (system, user, assistant, tool)"],
    ),
    "role of another type": (chat(turn(3, "a"), turn("assistant", "b")), ["unknown role 3"]),  # type: ignore[arg-type]
    "no content": (chat({"role": "user"}, turn("assistant", "b")), ["message 1 has no content"]),
    "content a number": (
        chat(turn("user", 5), turn("assistant", "b")),
        ["its content is not text"],
    ),
    "content an image": (
        chat(turn("user", [{"type": "image_url"}]), turn("assistant", "b")),
        ["its content has parts that are not text"],
    ),
    "empty answer": (
        chat(turn("user", "a"), turn("assistant", " ")),
        ["turn is empty"],
    ),
    "messages a text": (b'{"messages": "hello"}\n', ["row 2: expected a list of messages"]),
    "messages an object": (b'{"messages": {"role": "user"}}\n', ["row 2: expected a list"]),
    "messages missing": (b'{"other": 1}\n', ["row 2: expected a list of messages, found nothing"]),
    "no messages": (b'{"messages": []}\n', ["row 2: the chat has no messages"]),
    "message a text": (b'{"messages": ["a"]}\n', ["row 2: message 1: expected an object"]),
    "odd weight": (
        chat(turn("user", "a"), turn("assistant", "b", weight=0.5)),
        ["row 2: message 2: weight is 0.5"],
    ),
    "nothing trained": (
        chat(turn("user", "a"), turn("assistant", "b", weight=0)),
        ["row 2: nothing to train on"],
    ),
    "broken tools": (
        chat(turn("user", "a"), turn("assistant", "b"), tools="{"),
        ["row 2: tools: not valid JSON"],
    ),
}
