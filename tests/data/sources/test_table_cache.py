"""The table cache: reused for the same bytes, code, tokenizer and settings, and only then."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from transformers import PreTrainedTokenizerFast

import lorita.data
from lorita.data.examples import IGNORE, StoredExamples, count_tokens
from lorita.data.formats.readers import read_rows
from lorita.data.rows import Row, Text
from lorita.data.sources import table_cache as store
from lorita.data.sources.load_source import load_source
from lorita.data.tokens.tokenize import Treatment, tokenize_rows, tokenize_texts
from lorita.errors import DataError
from lorita.storage import cache
from lorita.storage.cache import tables_folder
from tests import tiny


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder for this test alone."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    yield tmp_path / "cache" / "lorita"


DATA = Path(lorita.data.__file__).parent


def test_a_change_in_any_file_of_data_changes_every_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sub-folders included: a corrected reader or tokeniser must not find its old tables."""
    copy = tmp_path / "data"
    shutil.copytree(DATA, copy)
    files = sorted(copy.rglob("*.py"))
    assert {file.parent.name for file in files} >= {"data", "sources", "formats", "tokens"}
    hashes = {store.code_hash(copy)}
    for file in files:
        file.write_text(file.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
        hashes.add(store.code_hash(copy))
    assert len(hashes) == len(files) + 1
    (copy / "sources" / "csv_files.py").rename(copy / "formats" / "csv_files.py")
    assert store.code_hash(copy) not in hashes

    key = store.key_of("rows", "digest")
    assert store.key_of("rows", "digest") == key
    monkeypatch.setattr(store, "_code", lambda: store.code_hash(copy))
    assert store.key_of("rows", "digest") != key
    monkeypatch.setattr(store, "_code", lambda: store.code_hash(DATA))
    assert store.key_of("rows", "digest") == key


def count(entries: Path) -> int:
    return len(list(entries.glob("*.arrow")))


def test_a_file_is_read_again_only_when_its_bytes_change(entries: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text\none\n")
    times = (1_700_000_000, 1_700_000_000)
    os.utime(file, times)
    assert load_source(str(file)).cells([0]) == {"text": ["one"]}
    load_source(str(file))
    assert count(entries) == 1
    (tmp_path / "b.csv").write_text("text\none\n")
    assert str(load_source(str(tmp_path / "b.csv")).origin) == str(tmp_path / "b.csv")
    assert count(entries) == 1

    # Same size and modification time as before: only the content differs.
    file.write_text("text\ntwo\n")
    os.utime(file, times)
    assert load_source(str(file)).cells([0]) == {"text": ["two"]}
    assert count(entries) == 2


def test_notes_and_columns_come_from_the_cache_too(entries: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text;n\none;1\n\ntwo;2\n")
    assert load_source(str(file)).notes == load_source(str(file)).notes != ()
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"text": "a", "n": [1]}\n')
    assert [load_source(str(lines)).cells([0])["n"] for _ in range(2)] == [[[1]], [[1]]]
    assert count(entries) == 2


def test_tokens_are_made_again_only_if_something_changed(
    entries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[Row] = [Text("one"), Text("two")]
    other = tiny.make_tokenizer()
    other.add_tokens(["one"])

    def tokens(rows: list[Row], tokenizer: PreTrainedTokenizerFast, **how: Any) -> list[list[int]]:
        treatment = Treatment(**{"max_length": 9, **how})
        made = tokenize_rows(rows, range(len(rows)), tokenizer, treatment, origin="rows")
        return [example.input_ids for example in made.examples]

    first = tokens(rows, tiny.make_tokenizer())
    assert tokens(rows, tiny.make_tokenizer()) == first
    assert count(entries) == 1
    for n, (again, tokenizer, how) in enumerate(
        [
            ([Text("one"), Text("six")], tiny.make_tokenizer(), {}),
            (rows, other, {}),
            (rows, tiny.make_tokenizer(), {"max_length": 2}),
            (rows, tiny.make_tokenizer(), {"max_length": 2, "overflow": "split"}),
        ],
        start=2,
    ):
        assert tokens(again, tokenizer, **how) != first
        assert count(entries) == n
    # A cache hit tokenises nothing.
    monkeypatch.setattr("lorita.data.tokens.tokenize._batches", None)
    assert tokens(rows, tiny.make_tokenizer()) == first


def test_counts_of_cut_tokens_come_from_the_cache_too(entries: Path) -> None:
    made = [tokenize_texts(["abcdef"], tiny.make_tokenizer(), max_length=4) for _ in range(2)]
    assert [(m.rows_cut, m.tokens_cut) for m in made] == [(1, 3), (1, 3)]


def test_stored_examples_are_a_sequence(entries: Path) -> None:
    texts = ["x" * (n % 7 + 1) for n in range(250)]
    examples = tokenize_texts(texts, tiny.make_tokenizer(), max_length=99).examples
    assert isinstance(examples, StoredExamples)
    assert list(examples) == [examples[i] for i in range(250)]
    assert examples[-1] == examples[249]
    assert examples[3:5] == [examples[3], examples[4]]
    assert count_tokens(examples) == sum(len(e.input_ids) for e in examples)
    with pytest.raises(IndexError):
        examples[250]
    assert IGNORE not in examples[0].labels


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file" / "cache")
    with pytest.raises(DataError, match=r"the cache cannot be written.*\n.*HF_DATASETS_CACHE"):
        tokenize_texts(["a"], tiny.make_tokenizer(), max_length=9)


def test_rows_larger_than_a_batch_keep_their_order(
    entries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorita.data.formats.stored_rows.BATCH_BYTES", 64)
    file = tmp_path / "a.txt"
    file.write_text("".join(f"line {i} {'x' * (i % 50)}\n" for i in range(300)))
    rows = read_rows(load_source(str(file))).rows
    made = tokenize_rows(rows, range(300), tiny.make_tokenizer(), Treatment(99), origin="rows")
    assert [example.row for example in made.examples] == list(range(300))
    tokenizer = tiny.make_tokenizer()
    spelled = [tokenizer.decode(e.input_ids[:-1]) for e in made.examples]
    assert [Text(text) for text in spelled] == list(rows)


@pytest.mark.parametrize(
    "damage",
    [
        "cut",
        "rows cut",
        "zeros",
        "flipped",
        "notes",
        "types",
        "own types",
        "link",
        "open",
        "folder",
    ],
)  # fmt: skip
def test_what_is_damaged_or_planted_is_read_again(
    damage: str, entries: Path, tmp_path: Path
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("".join(f"line {i}\n" for i in range(3000)))
    load_source(str(file))
    table, notes = next(entries.glob("*.arrow")), next(entries.glob("*.json"))
    assert table.stat().st_mode & 0o777 == notes.stat().st_mode & 0o777 == 0o600
    content, said = table.read_bytes(), notes.read_bytes()
    table.unlink()  # it is mapped into memory
    at = content.index(b"line 1000")
    table.write_bytes(
        {
            "cut": content[:-700],
            "rows cut": content[: len(content) // 2],
            "zeros": bytes(len(content)),
            "flipped": content[:at] + b"evil" + content[at + 4 :],
        }.get(damage, content)
    )
    if damage == "notes":
        notes.write_bytes(said[:-3])
    elif damage == "types":
        notes.write_text('{"notes": 3}')
    elif damage == "own types":
        notes.write_text(f"{hashlib.sha256(b'[3]').hexdigest()}\n[3]")
    elif damage == "link":
        table.replace(tmp_path / "elsewhere")
        table.symlink_to(tmp_path / "elsewhere")
    if damage == "folder":
        for file_of_cache in (table, notes):
            file_of_cache.unlink()
            (file_of_cache / "inside").mkdir(parents=True)
    else:
        table.chmod(0o666 if damage == "open" else 0o600)
    again = load_source(str(file))
    assert len(again.rows) == 3000 and again.cells([1000]) == {"text": ["line 1000"]}
    assert not table.is_symlink() and table.stat().st_mode & 0o777 == 0o600
    assert notes.read_bytes() == said


def test_a_damaged_parquet_table_is_read_again(entries: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    datasets.Dataset.from_dict({"text": [f"line {i}" for i in range(50)]}).to_parquet(str(file))
    load_source(str(file))
    (place,) = entries.glob("*-parquet")
    assert place.stat().st_mode & 0o777 == 0o700
    table = next(place.rglob("*.arrow"))
    content = table.read_bytes()
    table.unlink()
    table.write_bytes(content[: len(content) // 2])
    assert load_source(str(file)).cells([49]) == {"text": ["line 49"]}


def test_standard_input_of_a_killed_process_is_removed(entries: Path, llama: Path) -> None:
    """While a process reads, its copy stays; nobody else can look into it."""
    program = f"from lorita.cli import main; main(['preview', '-', '--model', {str(llama)!r}])"
    where = {**os.environ, "HF_DATASETS_CACHE": str(entries.parent)}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=where,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(b"secret\n" * 100_000)
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not list(entries.glob(".input-*/data")) and time.monotonic() < deadline:
            time.sleep(0.05)
        (copy,) = entries.glob(".input-*/data")
        assert copy.stat().st_mode & 0o777 == 0o600
        cache._cleaned.clear()
        tables_folder()
        assert copy.exists()
        process.kill()
    cache._cleaned.clear()
    tables_folder()
    assert not list(entries.iterdir())
