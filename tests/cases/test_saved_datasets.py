"""Folders of data sets: saved to disk, cloned from the hub, or with files that hold no rows."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict

from lorita.data.rows import Pair
from tests.cases.reading import CHAT, TURNS, lines, place, read, refusal, rows_of

ROWS = [{"prompt": f"a{i}", "completion": f"b{i}"} for i in range(3)]
PAIRS = [Pair(f"a{i}", f"b{i}") for i in range(3)]
LINES = lines(*ROWS)


def save(folder: Path, **splits: Dataset) -> Path:
    DatasetDict(splits).save_to_disk(str(folder))
    return folder


def test_a_saved_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    Dataset.from_list(ROWS).save_to_disk(str(folder))
    assert rows_of(folder) == PAIRS
    assert rows_of(next(folder.glob("*.arrow"))) == PAIRS
    assert "describes a data set" in refusal(folder / "state.json")
    assert "no part named 'x'" in refusal(folder, name="x")


def test_a_selection_and_chats_are_kept(tmp_path: Path) -> None:
    chosen = Dataset.from_list(ROWS).select([2, 0])
    assert rows_of(save(tmp_path / "a", train=chosen)) == [PAIRS[2], PAIRS[0]]
    chats = Dataset.from_list([{"messages": TURNS}])
    assert rows_of(save(tmp_path / "b", train=chats)) == [CHAT]


def test_splits_of_a_saved_data_set(tmp_path: Path) -> None:
    table = Dataset.from_list(ROWS)
    folder = save(tmp_path / "saved", train=table, test=table.select([1]))
    found = read(folder)
    assert list(found.rows) == PAIRS
    assert "the split 'train' of train, test" in found.understood
    assert rows_of(folder, split="test") == PAIRS[1:2]
    assert "no split 'dev' in this saved data set (found: train, test)" in refusal(
        folder, split="dev"
    )


def test_damaged(tmp_path: Path) -> None:
    folder = save(tmp_path / "saved", train=Dataset.from_list(ROWS))
    arrow = next(folder.rglob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:100])
    assert "this saved data set cannot be read" in refusal(folder)
    assert "cannot be read as Arrow" in refusal(arrow)


def test_arrow_files_of_other_programs(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with (
        pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file,
        pa.ipc.new_file(file, table.schema) as out,
    ):
        out.write_table(table)
    assert rows_of(tmp_path / "a.arrow") == PAIRS


CARD = """---
configs:
- config_name: en
  data_files: "en/*.jsonl"
- config_name: fr
  data_files:
  - split: train
    path: fr/one.jsonl
  - split: test
    path: fr/two.jsonl
---
# Rows
"""


def test_a_clone_with_subsets(tmp_path: Path) -> None:
    place(tmp_path, "README.md", CARD)
    for i, name in enumerate(("en/a.jsonl", "fr/one.jsonl", "fr/two.jsonl")):
        place(tmp_path, name, lines(ROWS[i]))
    assert "several subsets (en, fr); name one with --data-name" in refusal(tmp_path)
    assert rows_of(tmp_path, name="en") == PAIRS[:1]
    assert rows_of(tmp_path, name="fr") == PAIRS[1:2]
    assert rows_of(tmp_path, name="fr", split="test") == PAIRS[2:]
    assert "no subset 'de' (found: en, fr)" in refusal(tmp_path, name="de")


CLONES = {
    "hub": ("data/train.jsonl", "dataset_infos.json", '{"default": {"features": [{"a": 1}]}}'),
    "llama-factory": ("mine.jsonl", "dataset_info.json", '{"mine": {"file_name": "mine.jsonl"}}'),
    "model": ("rows.jsonl", "tokenizer_config.json", '{"chat_template": "x"}'),
}


@pytest.mark.parametrize("case", CLONES)
def test_files_that_hold_no_rows(case: str, tmp_path: Path) -> None:
    data, other, content = CLONES[case]
    place(tmp_path, data, LINES)
    place(tmp_path, other, content)
    place(tmp_path, "README.md", "No header.\n")
    place(tmp_path, ".gitattributes", "*.jsonl filter=lfs\n")
    place(tmp_path, ".git/config.json", "{}")
    found = read(tmp_path)
    assert list(found.rows) == PAIRS
    assert f"skipped {other}" in found.understood


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.json.gz", "a.xlsx", "a.txt"])
def test_pointers_of_git_lfs(name: str, tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    place(tmp_path, f"data/{name}", pointer)
    for path in (tmp_path / "data" / name, tmp_path / "data"):
        assert "a pointer of Git LFS, not the data; run: git lfs pull" in refusal(path)


def test_a_folder_of_several_kinds(tmp_path: Path) -> None:
    place(tmp_path, "a.csv", "prompt,completion\na0,b0\n")
    place(tmp_path, "b.json", json.dumps({"rows": ROWS[1:]}))
    place(tmp_path, "README.md", "# Read me\n")
    place(tmp_path, "LICENSE.txt", "Do what you want.\n")
    assert rows_of(tmp_path) == PAIRS
