"""``lorita report``: a page made anew, and pages that compare runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import lorita
from lorita.cli import run
from lorita.errors import OutputError, SettingsError, UserError
from lorita.evaluation.comparison import HeldOut
from lorita.runs.report.write import write_report
from lorita.storage.locks import hold
from lorita.storage.run_folder import LOCK_FILE
from lorita.workflows.report import make_report
from lorita.workflows.sweep_result import SweepResult, Tried
from tests.command import refused
from tests.runs.report.made import comparison, events, make_run
from tests.runs.report.test_report import EVIL, check_page, words_of


def grid(folder: Path, **values: list[float]) -> Path:
    """A sweep's folder, with a made run for each combination; the first of them is the best."""
    names = list(values)
    combinations = [{}]
    for name in names:
        combinations = [{**c, name: v} for c in combinations for v in values[name]]
    tried = []
    for number, options in enumerate(combinations):
        loss = 2.0 + number / 10
        name = f"run-{number}"
        make_run(folder / name, of=comparison(tuned=loss), **options)
        tried.append(Tried(name, options, loss, 2.0, 1.0))
    SweepResult(folder, 3.5, tuple(tried)).save()
    return folder


def test_one_run_again_and_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_run(tmp_path / "run")
    assert run(["report", str(made)]) == 0
    assert capsys.readouterr().out == f"Page: {made / 'report.html'}\n"
    assert make_report([made], tmp_path / "page.html") == tmp_path / "page.html"
    assert (tmp_path / "page.html").read_bytes() == (made / "report.html").read_bytes()


def test_several_runs(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a" / "run", r=4, of=comparison(tuned=2.5))
    second = make_run(tmp_path / "b" / "run", r=16, use_dora=True, of=comparison(tuned=2.25))
    text = words_of(check_page(make_report([first, second], tmp_path / "x.html").read_text()))
    for part in (
        "2 runs of owner/tiny on rows.csv. The lowest held-out loss is that of b/run.",
        "a/run 3.5000 2.5000", "b/run best 3.5000 2.2500", "r use_dora", "4 false", "16 true",
    ):  # fmt: skip
        assert part in text


@pytest.mark.parametrize("other", [HeldOut(12, 3.9, 2.0), HeldOut(11, 3.5, 2.0)])
def test_losses_on_other_rows_decide_nothing(other: HeldOut, tmp_path: Path) -> None:
    first = make_run(tmp_path / "first", r=4)
    second = make_run(tmp_path / "second", of=replace(comparison(), held_out=other))
    text = words_of(check_page(make_report([first, second], tmp_path / "x.html").read_text()))
    assert "not measured on the same rows" in text and "best" not in text


def test_a_run_that_is_not_finished_is_one_of_them(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "whole"), make_run(tmp_path / "part", finished=False)]
    text = words_of(check_page(make_report(runs, tmp_path / "x.html").read_text()))
    assert "not finished" in text


@pytest.mark.parametrize(("values", "part"), [
    ({"r": [4, 16]}, "Held-out loss over r Nats per token; the darker, the lower. r 4 16 "
     "2.0000 best 2.1000"),
    ({"learning_rate": [1e-2, 1e-3], "r": [16, 4]},
     "Held-out loss over r and learning_rate Nats per token; the darker, the lower. "
     "r learning_rate 0.001 0.01 4 2.3000 2.1000 16 2.2000 2.0000 best"),
])  # fmt: skip
def test_the_grid_of_a_sweep(values: dict[str, list[float]], part: str, tmp_path: Path) -> None:
    sweep = grid(tmp_path / "sweep", **values)
    file = make_report([sweep])
    assert file == sweep / "report.html"
    assert part in words_of(check_page(file.read_text()))
    assert make_report([sweep], tmp_path / "x.html").read_bytes() == file.read_bytes()


def test_a_large_sweep_shows_the_curves_of_the_best(tmp_path: Path) -> None:
    sweep = grid(tmp_path / "sweep", r=[1, 2, 4], lora_alpha=[1, 2, 4], seed=[1, 2])
    text = words_of(check_page(make_report([sweep]).read_text()))
    assert "The 8 best of 18 runs." in text and "Held-out loss over" not in text


def test_names_of_strangers_are_text(tmp_path: Path) -> None:
    name = EVIL.replace("/", "").replace("\x00", "")
    runs = [make_run(tmp_path / f"{name}{i}", text_template=f"{name}{i}") for i in (1, 2)]
    check_page(make_report(runs, tmp_path / "x.html").read_text())


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_run(tmp_path / "run")
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match=r"--output compared\.html"):
        make_report([made, made])
    with pytest.raises(OutputError, match="a file of another type"):
        make_report([made], tmp_path / "mine.txt")
    with pytest.raises(OutputError, match="belongs to the run"):
        make_report([made, made], write_report(made))
    with pytest.raises(UserError, match="holds no run"):
        make_report([made, tmp_path / "empty"], tmp_path / "x.html")
    assert "no such run folder" in refused(capsys, "report", tmp_path / "nothing")
    sweep = grid(tmp_path / "sweep", r=[4])
    values = json.loads((sweep / "sweep.json").read_text())
    values["runs"][0]["name"] = "../run"
    (sweep / "sweep.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="none of the sweep's runs"):
        make_report([sweep])
    (made / "lorita.json").write_text("{")
    assert "not valid JSON" in refused(capsys, "report", made)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_run_in_training_is_shown_elsewhere_only(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run", finished=False, log=events(3, ended=False))
    with hold(made / LOCK_FILE, made, advice="Wait."):
        with pytest.raises(OutputError):
            make_report([made])
        text = make_report([made], tmp_path / "x.html").read_text()
    assert "Its log goes to step 3 of 10" in text


def test_a_sweep_ends_with_its_page(llama: Path, prompts: Path, tmp_path: Path) -> None:
    result = lorita.sweep(
        {"r": [1, 2]}, model=str(llama), data=str(prompts), text_field="prompt", max_steps=1,
        max_new_tokens=4, proof=False, use_cpu=True, output_dir=tmp_path / "sweep",
        on_event=lambda event: None,
    )  # fmt: skip
    text = words_of(check_page((result.path / "report.html").read_text()))
    assert "Held-out loss over r" in text
