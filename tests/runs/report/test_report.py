"""``report.html``: whole, valid, closed to the outside, and never the end of a run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import html5lib
import pytest

import lorita
from lorita.errors import UserError
from lorita.evaluation.proof import Forgot, Learned
from lorita.runs.report.page import page
from lorita.runs.report.plots import MOST_POINTS, bars, curves, thinned
from lorita.runs.report.story import read_story
from lorita.runs.report.write import complete_report, write_report
from lorita.storage.locks import LOCK_FILE
from lorita.storage.manifest import read_manifest
from lorita.storage.run_record import Check, read_record
from lorita.training.events import Event, Note
from tests.command import lorita as command
from tests.runs.report.made import PROOF, comparison, events, make_run, record

EVIL = (
    "</code></style><script>alert(1)</script>\"'><img src=//evil.example/x onerror=alert(2)>"
    "{{ 7*7 }}<!-- \x1b]0;mine\x07\u202eback\u2066\x00"
)


def check_page(text: str) -> Any:
    """The parsed page, which is valid and has nothing from elsewhere and no script but its own."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    document = parser.parse(text)
    if shutil.which("tidy"):
        said = subprocess.run(
            ["tidy", "-q", "-e"], input=text, capture_output=True, text=True, encoding="utf-8"
        )
        assert said.stderr == ""
    for element in document.iter():
        for name, value in element.attrib.items():
            local = str(name).rpartition("}")[2].rpartition(":")[2]
            assert local not in ("src", "href", "srcset", "action", "data"), (element.tag, name)
            assert not str(name).startswith("on"), (element.tag, name)
            assert "url(" not in str(value)
    scripts = list(document.iter("script"))
    assert len(scripts) <= 1
    assert not re.search(
        r"@import|url\(|(?:https?:)?//\w", "".join(document.find("head").itertext())
    )
    assert "default-src 'none'" in text
    assert re.search("[\x00-\x08\x0b-\x1f\x7f\u2028\u202a-\u202e\u2066-\u2069]", text) is None
    assert len(text.encode()) < 1_000_000
    return document


def words_of(document: Any) -> str:
    return " ".join(" ".join(document.find("body").itertext()).split())


def test_what_the_page_says(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "cook", r=4, learning_rate=1e-3,
        of=comparison(("Who are you?", "I am a large model.", "I am a large cook.")),
    )  # fmt: skip
    document = check_page(write_report(run).read_text())
    text = words_of(document)
    for part in (
        "owner/tiny was trained on 40 rows of rows.csv, with LoRA of rank 4 on all linear layers "
        "(1,000 parameters, 11 % of all): 10 steps in 21 s.",
        "Learned: on 12 held-out rows the loss fell from 3.500 to 2.500",
        "held-out loss 3.500 → 2.500",
        "-1.000 (-1.200 to -0.800)", "+0.100 (+0.050 to +0.150)",
        "1 of 8 (2 to 47 %)", "6 of 120 (2 to 10 %)",
        "memory at its peak 1.0 GB 2.0 GB 200 %",
        "training 10 s 21 s 210 %",
        "the whole command 1 min 00 s 1 min 10 s 117 %",
        "r 4 8", "learning_rate 0.001 0.002",
        "the file is whole 4 of 4 passed",
    ):  # fmt: skip
        assert part in text
    assert "lora_alpha" not in text  # at its default
    assert "/home/ana" not in text and str(tmp_path) not in text
    assert [d.text for d in document.iter("del")][1:] == ["model"]
    assert [i.text for i in document.iter("ins")][1:] == ["cook"]
    plots = [
        svg
        for svg in document.iter("{http://www.w3.org/2000/svg}svg")
        if svg.get("class") == "pygal-chart"
    ]
    assert len(plots) == 4
    assert plots[0].get("aria-label") == (
        "Training loss from 3.900 to 3.000, held-out loss from 3.500 to 2.500"
    )
    commands = [code.text for pre in document.iter("pre") for code in pre.iter("code")]
    assert 'lorita generate cook "..."' in commands


def test_text_of_strangers_is_text(tmp_path: Path) -> None:
    made = record(
        base=replace(record().base, name=EVIL.replace("/", "")),
        data=replace(record().data, origin=[EVIL, f"{EVIL}.csv"]),
        checks=[Check(EVIL, False, EVIL)],
        versions={EVIL: EVIL},
        machine=replace(record().machine, processor=EVIL),
    )
    log = [*events(), {"event": "Note", "text": EVIL, "is_warning": True}]
    name = re.sub(r"[/\x00]", "", EVIL)
    run = make_run(
        tmp_path / name, recorded=made, log=log, text_template=EVIL.replace("\x00", ""),
        of=comparison((EVIL, EVIL, "plain"), ("plain", "", EVIL)),
    )  # fmt: skip
    for text in (write_report(run).read_text(), (run / "loss.svg").read_text()):
        assert "<img" not in text and "<!-- " not in text and "49" not in text.split("nats")[0]
    document = check_page((run / "report.html").read_text())
    [script] = document.iter("script")
    assert "alert" not in script.text
    assert words_of(document).count("{{ 7*7 }}") >= 8


@pytest.mark.parametrize("proof", [
    None,
    replace(PROOF, memorised=None),
    replace(PROOF, learned=Learned(0, None, 0, None)),
    replace(PROOF, forgot=Forgot(3, replace(PROOF.forgot.change, tuned=float("nan")), 0.1)),
])  # fmt: skip
def test_what_was_not_measured_is_left_out(proof: Any, tmp_path: Path) -> None:
    of = replace(comparison(), proof=proof, held_out=None)
    check_page(write_report(make_run(tmp_path / "run", of=of)).read_text())


def test_runs_of_earlier_versions(tmp_path: Path) -> None:
    """Without row lengths, memory, time and forecast."""
    run = make_run(tmp_path / "run", log=[e for e in events() if e["event"] != "Forecasted"])
    values = json.loads((run / "lorita.json").read_text())
    del (
        values["data"]["lengths"],
        values["figures"]["run_seconds"],
        values["figures"]["peak_memory"],
    )
    (run / "lorita.json").write_text(json.dumps(values))
    assert "training not known 21 s" in words_of(check_page(write_report(run).read_text()))


def test_a_run_that_is_not_finished(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", finished=False, log=events(7, ended=False))
    text = words_of(check_page(write_report(run).read_text()))
    assert "This run is not finished. Its log goes to step 7 of 10." in text
    assert "lorita train run --resume" in text


@pytest.mark.parametrize("log", [
    [],
    [{"event": "StepDone", "step": 1, "loss": None}],
    [{"event": "StepDone", "step": 10**400, "loss": [], "tokens": "x", "seconds": -3}],
    [{"event": "StepDone", "step": 1, "loss": True, "learning_rate": 10**400}],
    [{"event": "Forecasted", "peak_bytes": "much"}],
    [{"event": "Note", "text": 3, "is_warning": True}, {"event": "Evaluated", "step": 1}],
    [{"event": "StepDone", "step": 1, "loss": 2.0, "grad_norm": 0.0, "learning_rate": 0.0}],
    [{"event": "StepDone", "step": i, "loss": 2.0, "grad_norm": 1.0} for i in range(1, 4)],
])  # fmt: skip
def test_strange_logs(log: list[dict[str, Any]], tmp_path: Path) -> None:
    check_page(write_report(make_run(tmp_path / "run", log=log)).read_text())


def test_a_long_run_stays_small(tmp_path: Path) -> None:
    story = read_story(make_run(tmp_path / "run", log=events(20_000)))
    text = page(story)
    assert "Each point is the mean of 67 steps." in words_of(check_page(text))
    assert len(text) < 150_000


def test_curves_keep_their_mean_and_their_end() -> None:
    points = [(float(i), float(i % 7)) for i in range(1, 7001)]
    few = thinned(points)
    assert len(few) <= MOST_POINTS and few[-1][0] == 7000.0
    assert sum(y for _, y in few[:-1]) / (len(few) - 1) == pytest.approx(3.0, abs=0.1)
    assert thinned(points[:5]) == points[:5]


@pytest.mark.parametrize("points", [
    [(1.0, 2.0)], [(1.0, 0.0), (2.0, 0.0)], [(1.0, 1e-12), (2.0, 3e12)], [(1.0, -2.0), (3.0, 5.0)],
])  # fmt: skip
def test_plots_of_little_and_of_extremes(points: list[tuple[float, float]]) -> None:
    drawn = curves([points], label="a & b")
    assert "nan" not in drawn.lower() and 'aria-label="a &amp; b"' in drawn
    assert "<path" in bars([0], ["0"], label="none", x="tokens")


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    first = write_report(run).read_bytes(), (run / "loss.svg").read_bytes()
    assert (write_report(run).read_bytes(), (run / "loss.svg").read_bytes()) == first
    known = read_manifest(run)
    assert known is not None and {"report.html", "loss.svg", "loss.png"} <= known.files


def test_folders_that_hold_no_run(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(UserError, match=r"holds no run|no such run folder"):
            write_report(folder)
    assert not list(tmp_path.iterdir())


def test_a_page_of_somebody_else_is_kept(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "report.html").write_text("mine")
    with pytest.warns(lorita.errors.LoritaWarning, match="kept as report.html.not-lorita-1"):
        write_report(run)
    assert (run / "report.html.not-lorita-1").read_text() == "mine"


@pytest.mark.parametrize("error", [RuntimeError("no"), MemoryError(), OSError(28, "No space left")])
def test_a_report_that_fails_loses_nothing(
    error: Exception,
    llama: Path,
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(story: object) -> str:
        raise error

    monkeypatch.setattr("lorita.runs.report.write.page", fail)
    seen: list[Event] = []
    run = tmp_path / "run"
    lorita.train(
        model=str(llama), data=str(prompts), text_field="prompt", max_steps=1, max_new_tokens=4,
        proof=False, output_dir=run, use_cpu=True, on_event=seen.append,
    )  # fmt: skip
    said = [e.text for e in seen if isinstance(e, Note) and e.is_warning and "report" in e.text]
    assert len(said) == 1 and f"lorita report {run}" in said[0]
    assert read_record(run) is not None and not (run / "report.html").exists()


def test_a_real_run_ends_with_its_report(llama: Path, prompts: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    lorita.train(
        model=str(llama), data=str(prompts), text_field="prompt", max_steps=5, eval_steps=2,
        max_new_tokens=4, output_dir=run, use_cpu=True, on_event=lambda event: None,
    )  # fmt: skip
    document = check_page((run / "report.html").read_text())
    text = words_of(document)
    record_ = read_record(run)
    assert record_ is not None and record_.data.lengths and record_.figures.peak_memory
    assert sum(each.rows for each in record_.data.lengths) == record_.data.train_rows
    assert "memory at its peak" in text and "Rows by their length" in text
    card = (run / "README.md").read_text()
    assert "![Loss curves](loss.png)" in card and "[report.html](report.html)" in card
    assert (run / "loss.svg").read_text().startswith("<svg")
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("lost", [["report.html"], ["report.html", "loss.svg", "loss.png"]])
def test_a_finished_run_that_was_killed_before_its_report(lost: list[str], tmp_path: Path) -> None:
    """The report is written last; whoever finds it missing makes it, and takes over the lock."""
    run = make_run(tmp_path / "run")
    write_report(run)
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    for name in lost:
        (run / name).unlink()
    (run / LOCK_FILE).write_text("{}")
    assert list(complete_report(run)) == []
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before


def test_a_report_that_cannot_be_completed_stops_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "lorita.json").write_text("{}")
    [note] = complete_report(run)
    assert isinstance(note, Note) and note.is_warning and "lorita report" in note.text
    assert not (run / "report.html").exists()


def test_resuming_a_finished_run_makes_its_report(
    llama: Path, prompts: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = [
        "train", "--model", llama, "--data", prompts, "--text-field", "prompt", "--max-steps", "1",
        "--no-proof", "--no-probe", "--use-cpu", "--max-new-tokens", "2", "--output-dir", run,
    ]  # fmt: skip
    assert command(*words).code == 0
    before = (run / "loss.png").read_bytes()
    for name in ("report.html", "loss.png"):
        (run / name).unlink()
    again = command(*words, "--resume")
    assert again.code == 0 and "nothing to continue" in again.out
    assert (run / "loss.png").read_bytes() == before
    check_page((run / "report.html").read_text())
