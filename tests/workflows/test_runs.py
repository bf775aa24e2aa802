"""``lorita runs`` and ``--json``: figures for people and for programs."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorita.cli import run
from lorita.storage.run_record import Check
from tests.command import refused
from tests.runs.report.made import comparison, events, make_run, record


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Runs of all kinds: whole, in a sweep, unfinished, failed, damaged; and what is none."""
    runs = tmp_path / "runs"
    make_run(runs / "old")
    make_run(runs / "sweep" / "r=4", r=4, of=comparison(tuned=2.25))
    make_run(runs / "half", finished=False, log=events(3, ended=False))
    failed = record(checks=[Check("it is whole", False, "3 of 4")])
    make_run(runs / "failed", recorded=failed)
    (make_run(runs / "damaged") / "lorita.json").write_text("{")
    (runs / "tensorboard").mkdir()
    (runs / "notes.txt").write_text("mine")
    for number, name in enumerate(("old", "sweep/r=4", "half", "failed", "damaged")):
        for file in (runs / name).iterdir():
            os.utime(file, (1_700_000_000 + 60 * number,) * 2)
    return runs


def said(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert run([str(word) for word in words]) == 0
    return capsys.readouterr().out


def test_all_runs_of_a_folder(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.parent)
    monkeypatch.setenv("COLUMNS", "60")
    names = ["damaged", "failed", "half", "sweep/r=4", "old"]
    lines = said(capsys, "runs").splitlines()
    assert lines[::2] == [f"runs/{name}" for name in names]
    assert "not valid JSON" in lines[1] and "failed" in lines[3] and "not finished" in lines[5]
    assert "3.500 to 2.250, Learned; Some forgetting; Memorised heavily" in lines[7]
    found = json.loads(said(capsys, "runs", "--json"))
    assert [each["run"] for each in found] == [f"runs/{name}" for name in names]
    assert found[3]["held_out_loss"] == 2.25 and found[3]["finished"]
    assert found[0]["problem"] and not found[2]["finished"]
    monkeypatch.setenv("COLUMNS", "140")
    table = said(capsys, "runs", "runs")
    assert all(name in table for name in names) and "rows.csv" in table


def test_one_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "runs", place / "old")
    assert text.startswith("owner/tiny was trained on 40 rows of rows.csv")
    assert "Learned: on 12 held-out rows" in text and "lorita report" in text
    values = json.loads(said(capsys, "runs", place / "old", "--json"))
    assert values["trainable_parameters"] == "1,000" and values["held_out_loss"] == 2.5
    assert "Failed checks: it is whole (3 of 4)" in said(capsys, "runs", place / "failed")
    assert "goes to step 3 of 10" in said(capsys, "runs", place / "half")


def test_what_is_no_folder_of_runs(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no such folder" in refused(capsys, "runs", tmp_path / "nothing")
    assert "no such folder" in refused(capsys, "runs", place / "notes.txt")
    assert "not valid JSON" in refused(capsys, "runs", place / "damaged")
    (tmp_path / "empty").mkdir()
    assert said(capsys, "runs", tmp_path / "empty").startswith("No runs in ")
    assert json.loads(said(capsys, "runs", tmp_path / "empty", "--json")) == []


def test_figures_that_are_not_finite_are_null(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = replace(comparison().held_out, after=float("nan"))  # type: ignore[type-var]
    made = make_run(tmp_path / "run", of=replace(comparison(), held_out=held))
    for words in (("runs", made, "--json"), ("compare", made, "--json")):
        text = said(capsys, *words)
        json.loads(text, parse_constant=lambda word: pytest.fail(word))


@pytest.mark.parametrize(("words", "keys"), [
    (("targets", "MODEL"), {"name", "count", "shapes"}),
    (("plan", "--model", "MODEL"), {"parameter_line", "adapter_bytes", "forecast"}),
    (("plan", "--model", "MODEL", "--data", "ROWS", "--text-field", "prompt", "--no-probe"),
     {"work", "forecast", "notes"}),
    (("compare", "RUN"), {"answers", "proof"}),
])  # fmt: skip
def test_json_of_other_commands(
    words: tuple[str, ...], keys: set[str], llama: Path, prompts: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    places: dict[str, Any] = {"MODEL": llama, "ROWS": prompts, "RUN": tmp_path / "run"}
    if "RUN" in words:
        make_run(tmp_path / "run")
    values = json.loads(said(capsys, *(places.get(word, word) for word in words), "--json"))
    found = values[0] if isinstance(values, list) else values
    assert keys <= found.keys()
    if "--no-probe" in words:
        assert found["forecast"]["peak_bytes"] > 0 and found["work"]["rows"] > 0
