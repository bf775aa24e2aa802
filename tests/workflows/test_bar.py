"""The line at the bottom of a terminal fits it, keeps its bar, and says what is being done."""

from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len
from rich.color import ColorSystem

from lorita.cli.say import Words
from lorita.training.events import (
    Event,
    Note,
    PhaseStarted,
    StepDone,
    TrainingEnded,
    TrainingStarted,
)
from lorita.workflows.bar import MARGIN, NARROWEST, Bar
from lorita.workflows.screen import Screen, lines_of, print_text

BLOCK = "━╸╺"
WIDTHS = [40, 60, 80, 120]


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def console(width: int, *, terminal: bool = True) -> Screen:
    screen = Screen()
    screen.file, screen.width = Terminal() if terminal else io.StringIO(), width
    return screen


def drawn(width: int, *events: Event) -> str:
    bar, screen = Bar(), console(width)
    for event in events:
        bar.follow(event)
    screen._color_system = ColorSystem.EIGHT_BIT  # without colours only the part that is done shows
    screen.print(bar, end="")
    assert isinstance(screen.file, io.StringIO)
    return re.sub(r"\x1b\[[\d;]*m", "", screen.file.getvalue())


def part_done(phase: PhaseStarted, by: float) -> PhaseStarted:
    phase.advance(by)
    return phase


STEP = StepDone(12, 1.5, 2.3456, 0.1, 1.5e-3, 12_345, 9.8)
TRAINING = (TrainingStarted(0, 200, 100, 10, 12_345), STEP)
PHASES = [
    PhaseStarted("Loading /a/path/to/a/model/with/a/very/long/name/that/goes/on/and/on"),
    part_done(PhaseStarted("Asking the tuned model", 8, "answers"), 3.5),
    part_done(PhaseStarted("Reading general passages with the tuned model", 90, "passages"), 17),
    PhaseStarted("Scoring rows with the base", 12_000, "rows"),
]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("events", [TRAINING, TRAINING[:1], *((phase,) for phase in PHASES)])
def test_one_line_that_fits_and_has_a_bar(width: int, events: tuple[Event, ...]) -> None:
    line = drawn(width, *events)
    assert "\n" not in line
    assert cell_len(line) <= width - MARGIN  # there is room for ^C
    assert sum(line.count(mark) for mark in BLOCK) >= NARROWEST


def test_what_matters_least_is_left_out_first() -> None:
    assert "step 12/200" in drawn(40, *TRAINING) and "left" in drawn(40, *TRAINING)
    assert "loss 2.3456" in drawn(60, *TRAINING) and "lr" not in drawn(60, *TRAINING)
    assert "lr 1.50e-03" in drawn(120, *TRAINING)


def test_counts_and_ends_of_phases() -> None:
    assert "3/8 answers" in drawn(80, PHASES[1])
    assert "step 12/200" in drawn(80, *TRAINING, PHASES[3], Note("scored"))
    assert "rows" in drawn(80, *TRAINING, PHASES[3])
    assert drawn(80, *TRAINING, TrainingEnded(200, 1.0, 1)).strip() == ""


SENTENCE = (
    "Learned: on 20 held-out rows the loss fell from 3.21 to 2.98 nats per token (perplexity "
    "24.8 to 19.7); change -0.230 (95 % interval -0.250 to -0.210)."
)
COMMAND = "lorita train /a/rather/long/path/to/the/folder/of/a/run/that/was/interrupted --resume"


@pytest.mark.parametrize("width", WIDTHS)
def test_sentences_break_between_words_and_commands_stay_whole(width: int) -> None:
    screen = console(width)
    print_text(screen, f"{SENTENCE}\nContinue with: {COMMAND}")
    assert isinstance(screen.file, io.StringIO)
    lines = screen.file.getvalue().splitlines()
    assert COMMAND in " ".join(lines[-1:])
    assert all(cell_len(line) <= width for line in lines if "/a/rather" not in line)
    assert " ".join(lines) == f"{SENTENCE} Continue with: {COMMAND}"


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_broken_where_other_programs_read(width: int) -> None:
    screen = console(width, terminal=False)
    print_text(screen, SENTENCE)
    assert isinstance(screen.file, io.StringIO)
    assert screen.file.getvalue() == f"{SENTENCE}\n"


def test_wide_characters_and_words_that_do_not_fit() -> None:
    assert lines_of("漢字 漢字 漢字", 9) == ["漢字 漢字", "漢字"]
    path = "/a/path/without/any/space/in/it"
    assert lines_of(f"Saved in {path} now", 20) == ["Saved in", path, "now"]


@pytest.mark.parametrize("pieces", [1, 3, 200])
def test_an_answer_that_streams_breaks_between_words(
    pieces: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    text = "The bridges of the town were\nbuilt in another century. " * 3
    words = Words()
    for i in range(0, len(text), pieces):
        words.write(text[i : i + pieces])
    words.end("…")
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) < 30 for line in lines)
    assert " ".join(" ".join(lines).split()) == " ".join(text.split()) + " …"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_curve_of_the_loss_fits(width: int) -> None:
    steps = [StepDone(i, 1.0, 5.0 - i / 4, 0.1, 1e-3, 100, 1.0) for i in range(1, 13)]
    strange = StepDone(13, 1.0, float("nan"), 0.1, 1e-3, 100, 1.0)
    line = drawn(width, TRAINING[0], *steps, strange, steps[-1])
    assert cell_len(line) <= width - MARGIN
    assert ("█▇▇▆▅▅▄▄▃▂▂▁" in line) == (width > 60), line
