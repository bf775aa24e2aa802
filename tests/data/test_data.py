"""From files to targets: every text complete, its end a target, padding never a target."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lorita.data.batches import MicroBatch, epoch_order, iterate_steps, micro_batches
from lorita.data.examples import IGNORE, Example
from lorita.data.formats.choose_format import Wanted
from lorita.data.formats.readers import read_rows
from lorita.data.rows import Text
from lorita.data.sources.load_source import load_source
from lorita.data.sources.source import Source
from lorita.data.splits import split_rows
from lorita.data.tokens.tokenize import tokenize_texts
from tests import tiny

ROWS = [("cook", 'Say "soup", please.\nTwo lines.'), ("poet", "1"), ("ñandú", "NA")]


def write(folder: Path, kind: str) -> Path:
    import csv

    path = folder / f"rows.{kind}"
    records = [{"act": act, "prompt": prompt} for act, prompt in ROWS]
    if kind in ("csv", "tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(
                file, ["act", "prompt"], delimiter="\t" if kind == "tsv" else ","
            )
            writer.writeheader()
            writer.writerows(records)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))
    elif kind == "json":
        path.write_text(json.dumps(records))
    else:
        import pandas

        pandas.DataFrame(records).to_parquet(path)
    return path


def texts(source: Source, **wanted: str) -> list[str]:
    rows = read_rows(source, Wanted(**wanted)).rows
    return [row.text for row in rows if isinstance(row, Text)]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_every_kind_of_file_gives_the_same_texts(kind: str, tmp_path: Path) -> None:
    source = load_source(str(write(tmp_path, kind)))
    assert texts(source, text_field="prompt") == [prompt for _, prompt in ROWS]
    both = texts(source, text_template="{act}: {prompt}")
    assert both == [f"{act}: {prompt}" for act, prompt in ROWS]


def test_lines_and_several_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.txt").write_text("three\n")
    source = load_source([str(tmp_path / "a.txt"), str(tmp_path / "b.txt")])
    assert texts(source) == ["one", "two", "three"]


def test_the_end_is_a_target_and_padding_is_not() -> None:
    """Even if the padding token is the end-of-text token."""
    tokenizer = tiny.make_tokenizer()
    examples = tokenize_texts(["ab", "abcdef"], tokenizer, max_length=100).examples
    eos = tokenizer.eos_token_id
    batch = MicroBatch(examples).padded(eos, torch.device("cpu"))
    assert batch["labels"].tolist()[0] == [*examples[0].input_ids, *[IGNORE] * 4]
    assert examples[0].input_ids[-1] == eos
    assert examples[0].num_targets == 2
    assert batch["attention_mask"].sum() == sum(len(e.input_ids) for e in examples)


def test_cut_rows_are_counted_and_lose_their_end() -> None:
    tokens = tokenize_texts(["abc", "abcdefgh"], tiny.make_tokenizer(), max_length=5)
    assert (tokens.rows_cut, tokens.tokens_cut) == (1, 4)
    assert [len(e.input_ids) for e in tokens.examples] == [4, 5]


def test_an_existing_end_token_is_not_doubled() -> None:
    tokens = tokenize_texts(["ab<eos>"], tiny.make_tokenizer(), max_length=9).examples[0]
    assert tokens.input_ids.count(0) == 1


def test_every_epoch_has_every_row_once_and_any_step_can_be_the_first() -> None:
    rows = [Example([1, 2], [1, 2], row) for row in range(7)]
    steps = iterate_steps(rows, rows_per_step=3, seed=5)
    first = [[e.row for e in next(steps)] for _ in range(6)]
    assert [len(step) for step in first] == [3, 3, 1, 3, 3, 1]
    for epoch in (first[:3], first[3:]):
        assert sorted(row for step in epoch for row in step) == list(range(7))
    assert first[:3] != first[3:]
    for start in range(6):
        later = iterate_steps(rows, rows_per_step=3, seed=5, first_step=start)
        assert [e.row for e in next(later)] == first[start]
    assert epoch_order(7, seed=5, epoch=0) != epoch_order(7, seed=6, epoch=0)


def test_micro_batches_keep_order_and_budget() -> None:
    rows = [Example([0] * n, [0] * n, i) for i, n in enumerate((5, 4, 9, 1, 1, 1))]
    batches = micro_batches(rows, 6)
    assert [[e.row for e in b.examples] for b in batches] == [[0], [1], [2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("given", "train", "held_out"),
    [
        ({"max_train_samples": 5}, 5, 15),
        ({"max_train_samples": 5, "max_eval_samples": 4}, 5, 4),
        ({}, 18, 2),
        ({"eval_fraction": 0.5}, 10, 10),
        ({"eval_fraction": 0.0}, 20, 0),
        ({"has_eval_data": True}, 20, 0),
        ({"max_train_samples": 5, "eval_fraction": 0.2}, 4, 1),
    ],
)
def test_held_out_rows(given: dict[str, object], train: int, held_out: int) -> None:
    defaults = {
        "max_train_samples": None,
        "eval_fraction": None,
        "max_eval_samples": 100,
        "has_eval_data": False,
        "seed": 1,
    }
    split = split_rows(20, **{**defaults, **given})  # type: ignore[arg-type]
    assert (len(split.train), len(split.held_out)) == (train, held_out)
    assert not set(split.train) & set(split.held_out)


@pytest.mark.parametrize("count", [0, 1, 2, 5, 1000])
def test_rows_are_held_out_in_the_order_that_torch_draws(count: int) -> None:
    import torch

    from lorita.data.splits import _permutation

    for seed in (0, 42, 2**31, 2**32 + 7):
        drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        assert _permutation(count, seed) == drawn.tolist()
