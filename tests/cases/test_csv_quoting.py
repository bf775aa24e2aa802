"""CSV files as programs and people write them: the rows of the file are the rows that are read."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from lorita.data.rows import Pair
from lorita.data.sources.load_source import load_source
from tests.cases.reading import place, read, refusal

TAIL = "".join(f"w{i}\tv{i}\n" for i in range(300))
Expected = list[tuple[str, str]]
READ: dict[str, tuple[str, str | bytes, Expected, str]] = {
    "a quote over two rows": (
        "a.tsv",
        'prompt\tcompletion\n"Hello\tHallo\nBye"\tTschau\n',
        [('"Hello', "Hallo"), ('Bye"', "Tschau")],
        "quotes are part of the text",
    ),
    "far down": (
        "a.tsv",
        f'prompt\tcompletion\n{TAIL}"Hello\tHallo\nx\ty\nBye"\tTschau\n',
        [('"Hello', "Hallo"), ("x", "y"), ('Bye"', "Tschau")],
        "quotes are part of the text",
    ),
    "quoted speech": (
        "a.tsv",
        'prompt\tcompletion\n"Hello," he said.\t"Hallo", sagte er.\n"Hi."\t"Hallo."\n',
        [('"Hello," he said.', '"Hallo", sagte er.'), ('"Hi."', '"Hallo."')],
        "quotes are part of the text",
    ),
    "a quote that stays open": (
        "a.csv",
        'prompt,completion\nx,"y\nz,5"\n',
        [("x", '"y'), ("z", '5"')],
        "quotes are part of the text",
    ),
    "semicolons": (
        "a.csv",
        'prompt;completion\n"Hello;Hallo\nBye";Tschau\n1,5;2,5\n',
        [('"Hello', "Hallo"), ('Bye"', "Tschau"), ("1,5", "2,5")],
        "semicolon-separated, quotes are part of the text",
    ),
    "inches": ("a.csv", 'prompt,completion\n5" pipe,a "q" b\n', [('5" pipe', 'a "q" b')], ""),
    "lines in cells": ("a.csv", 'prompt,completion\n"a\nb","c\n\nd"\n', [("a\nb", "c\n\nd")], ""),
    "a sentence over lines": (
        "a.csv",
        'prompt,completion\n"Hello, world\nBye",x\ny,z\n',
        [("Hello, world\nBye", "x"), ("y", "z")],
        "",
    ),
    "doubled quotes": ("a.csv", 'prompt,completion\n"a ""b"" c",d\n', [('a "b" c', "d")], ""),
    "all quoted": ("a.csv", '"prompt","completion"\n"a","b"\n', [("a", "b")], ""),
    "texts quoted": (
        "a.csv",
        'prompt,completion\n"a","b"\n"c","d"\n',
        [("a", "b"), ("c", "d")],
        "",
    ),
    "backslashes": (
        "a.csv",
        'prompt,completion\n"a \\"b\\"",c\n',
        [('a "b"', "c")],
        "escaped with \\",
    ),
    "sep": ("a.csv", "sep=;\r\nprompt;completion\r\n1,5;2,5\r\n", [("1,5", "2,5")], "semicolon"),
    "quoted sep": ("a.csv", '"sep=|"\nprompt|completion\na|b\n', [("a", "b")], "bar-separated"),
    "sep tab": ("a.csv", "SEP=\t\nprompt\tcompletion\na\tb\n", [("a", "b")], "tab-separated"),
    "blank lines above": ("a.csv", "\n\nprompt,completion\na,b\n", [("a", "b")], ""),
    "a space before the quote": (
        "a.csv",
        'prompt,completion\n"a", "b"\nc, "d, e"\n',
        [("a", "b"), ("c", "d, e")],
        "spaces before cells skipped",
    ),
    "a quoted word after a comma": (
        "a.csv",
        'prompt,completion\nhe said, "x" and so on\n',
        [("he said", ' "x" and so on')],
        "",
    ),
    "old mac": ("a.csv", "prompt,completion\ra,b\rc,d\r", [("a", "b"), ("c", "d")], ""),
    "mark": ("a.csv", "\ufeffprompt,completion\nñ,b\n".encode(), [("ñ", "b")], ""),
    "utf-16": (
        "a.csv",
        "prompt,completion\r\nñ,b\r\n".encode("utf-16"),
        [("ñ", "b")],
        "UTF-16 text",
    ),
    "utf-16 tsv": (
        "a.tsv",
        "\ufeffprompt\tcompletion\n'ñ'\tb\n".encode("utf-16-be"),
        [("'ñ'", "b")],
        "UTF-16 text",
    ),
    "index": (
        "a.csv",
        ",prompt,completion\n0,a,b\n1,c,d\n",
        [("a", "b"), ("c", "d")],
        "Unnamed: 0",
    ),
}


@pytest.mark.parametrize("case", READ)
def test_rows(case: str, tmp_path: Path) -> None:
    name, content, expected, said = READ[case]
    found = read(place(tmp_path, name, content))
    assert list(found.rows)[-len(expected) :] == [Pair(*pair) for pair in expected]
    assert len(found.rows) == len(expected) + (300 if case == "far down" else 0)
    assert said in found.understood
    assert said or "a.csv" not in found.understood


REFUSED: dict[str, tuple[str, str]] = {
    "quoted, then open": ('"p","c"\n"a, x","b"\n"c","d\n', "line 3: a quote that opens here"),
    "quotes in quotes": (
        'prompt,completion\n"a","b"\n"c "x" d","e"\n',
        "line 3: broken quoting",
    ),
    "sep, then a short row": ("sep=;\np;c\na;b\nc\n", "line 4: 1 field, but the header has 2"),
    "sep of another kind": ("sep=:\np:c\na:b\n", "sep=:: lorita reads files separated by comma"),
    "no header, a sentence": (
        "Hello there my dear friend\nHow are you\n",
        "add a header line above it",
    ),
    "no header, an id": ("17,Hello there\n18,How are you\n", "add a header line above it"),
    "no header, a pair": (
        "What is the capital of France?,Paris\nWhat is the capital of Spain?,Madrid\n",
        "add a header line above it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, tmp_path: Path) -> None:
    content, said = REFUSED[case]
    assert said in refusal(place(tmp_path, "a.csv", content))


def test_json_in_a_file_named_otherwise(tmp_path: Path) -> None:
    line = '{"prompt": "a", "completion": "b"}\n'
    for name, content in {"a.txt": line * 2, "a.csv": line * 3, "b.txt": f"[\n{line}]"}.items():
        found = read(place(tmp_path, name, content))
        assert found.rows[0] == Pair("a", "b")
        assert "holds JSON, read as such (--file-type" in found.understood
    text = read(place(tmp_path, "c.txt", line), file_type="text")
    assert text.kind == "text"
    assert read(place(tmp_path, "d.txt", line + "and prose\n")).kind == "text"


@pytest.mark.parametrize("ending", ["", "\n"])
def test_stray_quotes_through_a_pipe(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'prompt\tcompletion\n"Hello\tHallo\nBye"\tTschau' + ending
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    source = load_source("-")
    assert source.cells([0, 1])["prompt"] == ['"Hello', 'Bye"']
    assert "quotes are part of the text" in str(source.notes)
