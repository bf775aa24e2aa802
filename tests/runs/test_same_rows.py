"""The same rows give the same tokens and the same adapter, whatever they came in."""

from __future__ import annotations

import csv
import json
import string
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lorita.cli import run as lorita_here
from lorita.data.formats.choose_format import Wanted
from lorita.data.formats.readers import read_rows
from lorita.data.sources.load_source import load_source
from lorita.data.tokens.tokenize import Treatment, tokenize_rows
from tests.command import lorita
from tests.data.tokens.tokenizers import make
from tests.hub_server import HubServer, hub_server

LETTERS = string.ascii_lowercase
# No row is nearly another: copies of trained rows would not be held out.
ROWS = [
    {
        "act": f"role {i}",
        "prompt": " ".join(f"{LETTERS[(7 * i + j) % 26]}{i * j}" for j in range(6)),
    }
    for i in range(24)
]
ROWS[3]["prompt"] = 'I act, "quoted",\nover two lines; with é and NA.'
ROWS[5]["prompt"] = "1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["act", "prompt"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(ROWS)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "rows.parquet")
    hub = folder / "hub" / "data"
    hub.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(ROWS), hub / "train-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module")
def hub(folder: Path) -> Iterator[HubServer]:
    with hub_server() as server:
        server.add("someone/rows", folder / "hub" / "data", dataset=True)
        yield server


def trained(run: Path) -> tuple[bytes, dict[str, object]]:
    """The adapter, and what the record says of the rows."""
    record = json.loads((run / "lorita.json").read_text())["data"]
    del record["origin"]
    record["losses"] = [
        event["loss"]
        for event in map(json.loads, (run / "log.jsonl").read_text().splitlines())
        if event["event"] == "StepDone"
    ]
    return (run / "adapter_model.safetensors").read_bytes(), record


def arguments(llama: Path, data: Path | str, run: Path) -> list[str]:
    options = ["--text-field", "prompt", "--max-train-samples", "20", "--max-steps", "3"]
    where = ["train", "--model", str(llama), "--data", str(data), "--output-dir", str(run)]
    # Which products are fastest is probed in every process, and a busy machine may choose others.
    options += ["--dtype", "float32", "--no-speedup"]
    return [*where, *options, "--max-new-tokens", "2", "--use-cpu"]


@pytest.fixture(scope="module")
def from_csv(
    folder: Path, llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[bytes, dict[str, object]]:
    run = tmp_path_factory.mktemp("from") / "csv"
    assert lorita_here(arguments(llama, folder / "rows.csv", run)) == 0
    found = trained(run)
    assert (found[1]["train_rows"], found[1]["held_out_rows"]) == (20, 4)
    return found


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet", "hub"])
def test_same_adapter_from(
    name: str,
    folder: Path,
    llama: Path,
    tmp_path: Path,
    from_csv: tuple[bytes, dict[str, object]],
) -> None:
    """JSONL, Parquet, and a folder laid out as the hub lays out data sets."""
    assert lorita_here(arguments(llama, folder / name, tmp_path / "run")) == 0
    assert trained(tmp_path / "run") == from_csv


@pytest.mark.parametrize("extra", [(), ("--streaming",)], ids=["downloaded", "streamed"])
def test_same_adapter_from_the_hub(
    extra: tuple[str, ...],
    hub: HubServer,
    folder: Path,
    llama: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Both from processes of their own: what other tests did in this one must not count."""
    alone = tmp_path_factory.getbasetemp() / "from-csv-in-a-process"
    if not alone.exists():
        assert lorita(*arguments(llama, folder / "rows.csv", alone)).code == 0
    there = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    outcome = lorita(*arguments(llama, "someone/rows", tmp_path / "run"), *extra, **there)
    assert outcome.code == 0, outcome.err
    found, expected = trained(tmp_path / "run"), trained(alone)
    assert found[1] == expected[1], outcome.err
    assert found == expected


@pytest.mark.parametrize("family", ["bytes", "spaces"])
def test_same_tokens(family: str, folder: Path) -> None:
    streams = []
    for name in ("rows.csv", "rows.jsonl", "rows.parquet", "hub"):
        rows = read_rows(load_source(str(folder / name)), Wanted(text_template="{act}: {prompt}"))
        made = tokenize_rows(
            rows.rows, range(24), make(family), Treatment(40, overflow="split"), origin=rows.origin
        )
        streams.append([(e.input_ids, e.labels, e.row) for e in made.examples])
    assert all(stream == streams[0] for stream in streams)
    assert len(streams[0]) >= 24
