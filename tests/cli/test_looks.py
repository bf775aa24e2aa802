"""What a person sees in a terminal: whole words, bars with counts, no line left behind."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests import tiny
from tests.command import lorita
from tests.screen import Look, look

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
SOURCE = Path(__file__).parents[2] / "src/lorita"
BAR = re.compile("[━╸╺]{3}")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def arguments(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    data = tmp_path_factory.mktemp("data") / "rows.txt"
    data.write_text("\n".join(tiny.make_texts(40)))
    return ["train", "--model", model, "--data", data, "--use-cpu", "--max-new-tokens", 12]


@pytest.fixture(scope="module")
def trained(arguments: list[object], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Look]:
    run = tmp_path_factory.mktemp("runs") / "run"
    return run, look(*arguments, "--max-steps", 5, "--output-dir", run, columns=60)


def test_a_run_at_60_columns(trained: tuple[Path, Look]) -> None:
    run, seen = trained
    assert seen.code == 0, seen.screen
    text = seen.text()
    for sentence in ("nats per token (perplexity", "training starts,", "Use it:"):
        assert sentence in text
    assert f'lorita generate {run} "..."' in "".join(seen.lines)  # for the terminal to break
    assert BAR.search(seen.screen) is None  # the bar is gone
    frames = "\n".join(seen.frames)
    phases = (
        "Loading libraries",
        "Loading /",
        "Asking the tuned model",
        "Scoring rows with the tuned model",
        "Reading general passages",
        "Testing what the base memorised",
    )
    drawn = [phase for phase in phases if re.search(f"{phase}.*[━╸╺]{{3}}", frames)]
    assert len(drawn) >= 3, drawn  # the screen is drawn ten times a second: some are over sooner
    assert re.search(r"step \d+/5 [━╸╺]+ .* left", frames)
    assert re.search(r"\d/\d+ (answers|rows|passages)", frames)


def test_no_line_is_left_by_ctrl_c(arguments: list[object], tmp_path: Path) -> None:
    run = tmp_path / "run"
    more = ("--max-steps", 5000, "--output-dir", run)
    seen = look(*arguments, *more, columns=60, typed=(("step ", b"\x03"),))
    assert seen.code == 130
    assert BAR.search(seen.screen) is None and "^C" not in seen.screen
    text = seen.text()
    assert re.search(r"Interrupted after step \d+ of 5000", text)
    assert text.lower().count("interrupted") == 1
    assert "Continue with: lorita train" in text


def test_a_chat_says_that_it_loads_and_that_an_answer_was_cut(trained: tuple[Path, Look]) -> None:
    run, _ = trained
    typed = (("stops an answer.", b"I act as\n"), ("was cut at 9 tokens", b"/exit\n"))
    seen = look("chat", run, "--max-new-tokens", 9, typed=typed)
    assert seen.code == 0, seen.screen
    assert any("Loading" in frame for frame in seen.frames)
    assert "…" in seen.screen and "--max-new-tokens allows longer ones" in seen.text()


def test_a_dumb_terminal_and_no_colour(trained: tuple[Path, Look]) -> None:
    run, _ = trained
    ask = ("generate", run, "I act as", "--max-new-tokens", 4)
    plain = look(*ask, TERM="dumb")
    assert plain.code == 0 and "Loading" in plain.screen and BAR.search(plain.screen) is None
    assert "I act as" in look(*ask, NO_COLOR="1").screen


def test_a_pipe_gets_whole_lines(trained: tuple[Path, Look]) -> None:
    run, _ = trained
    shown = lorita("compare", run)
    assert re.search(r"^Learned: .*perplexity.*\.$", shown.out, re.MULTILINE)
    asked = lorita("generate", run, "I act as", "--max-new-tokens", "4")
    assert asked.err == "" and asked.out.startswith("I act as")


@pytest.mark.parametrize("folder", ["cli", "workflows"])
def test_nothing_is_printed_past_the_one_place_for_it(folder: str) -> None:
    """Or its lines would break inside words in a terminal."""
    own = {"say.py", "progress.py"}
    for file in (SOURCE / folder).glob("*.py"):
        if file.name not in own:
            found = re.findall(r"(?<![\w.])print\(.*", file.read_text(encoding="utf-8"))
            assert not found, f"{file.name}: {found[0]}"
