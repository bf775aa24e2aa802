"""What a notebook shows: in a real kernel, and with shells of the kinds that there are."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import html5lib
import pytest

from lorita.evaluation.comparison import compared
from lorita.evaluation.notebook_html import table, text
from lorita.training.events import (
    Evaluated,
    Event,
    Note,
    PhaseStarted,
    StepDone,
    TrainingEnded,
    TrainingStarted,
)
from lorita.workflows.notebook import Board, in_notebook, notebook_display
from lorita.workflows.progress import event_line, show_progress
from lorita.workflows.sweep_result import SweepResult, Tried
from tests.notebooks import executed, notebook_of, outputs

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</td></table><style>*{display:none}</style>",
    "a\u202eb {0} {x} %s \x1b[31m",
)


@pytest.fixture(scope="module")
def ran(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A notebook that trains, previews and sweeps."""
    from tests import tiny

    folder = tmp_path_factory.mktemp("notebook")
    tiny.write_csv(folder / "rows.csv", [*tiny.make_texts(23), f"{HOSTILE[0]} and {HOSTILE[1]}"])
    options = f"model={str(llama)!r}, data='rows.csv', text_field='prompt', use_cpu=True"
    return executed(
        notebook_of(
            f"import lorita\noptions = dict({options}, max_steps=2, max_new_tokens=4)",
            f"run = lorita.train(**options, compare_prompt={HOSTILE[2]!r})",
            "run",
            "run.compare()",
            "run.compare().proof",
            "lorita.preview(**options)",
            "lorita.sweep({'r': [1, 2]}, **options, proof=False, output_dir='sweep')",
            "try:\n    lorita.train(model='nowhere/none.gguf', data='rows.csv')\n"
            "except lorita.UserError as error:\n    print('refused')",
        ),
        folder,
        OMP_NUM_THREADS="1",
    )


def test_progress_is_one_display(ran: Any) -> None:
    """Of widgets, bars and lines on the streams there are none."""
    [output] = ran.cells[1].outputs
    assert output.output_type == "display_data"
    shown = output.data["text/html"]
    assert "Trained in" in shown and "Saved in" in shown and "step 2/2" not in shown
    assert "Trained in" in output.data["text/plain"]
    assert set(output.data) == {"text/html", "text/plain"}


@pytest.mark.parametrize(("cell", "parts"), [
    (2, ["was trained on", "data:image/svg+xml;base64,", "Learn", "Saved in"]),
    (3, ["<table", "tuned", "held-out"]),
    (4, ["forgetting", "general passages"]),
    (5, ["Read as", "trained", "tokens", "row 1"]),
    (6, ["best", "held-out loss", "<table"]),
])  # fmt: skip
def test_results(cell: int, parts: list[str], ran: Any) -> None:
    shown = outputs(ran.cells[cell], "text/html")[-1]
    for part in parts:
        assert part.lower() in shown.lower(), part
    check_harmless(shown)
    [plain] = outputs(ran.cells[cell], "text/plain")[-1:]
    assert len(plain) < 5000 and " at 0x" not in plain


def test_a_refusal_leaves_the_notebook_usable(ran: Any) -> None:
    assert "refused" in "".join(o.get("text", "") for o in ran.cells[7].outputs)


def check_harmless(shown: str) -> None:
    """Nothing that runs, loads or styles, and markup that is whole."""
    parser = html5lib.HTMLParser(strict=False, namespaceHTMLElements=False)
    tree = parser.parseFragment(shown)
    wrong = [code for _, code, _ in parser.errors if "expected-closing" not in code]
    assert not wrong, wrong
    for element in tree.iter():
        assert element.tag not in ("script", "style", "iframe", "link", "object"), element.tag
        assert not [name for name in element.attrib if name.startswith("on")]
        assert element.get("src", "data:").startswith("data:image/svg+xml;base64,") or (
            element.get("src") is None
        )
    assert "\u202e" not in shown and "\x1b" not in shown


@pytest.mark.parametrize("hostile", HOSTILE)
def test_text_is_only_text(hostile: str) -> None:
    check_harmless(compared(hostile, [hostile], [hostile], [hostile])._repr_html_())
    check_harmless(table([hostile], [[hostile, text(hostile)]]))
    runs = (Tried("a", {hostile: hostile}, None, None, None, failed=hostile),)
    check_harmless(SweepResult(Path(hostile), None, runs)._repr_html_())
    board = Board(event_line)
    for event in (Note(hostile, is_warning=True), PhaseStarted(hostile, 3, hostile)):
        board.follow(event)
        check_harmless(board._repr_html_())


def test_long_texts_are_cut() -> None:
    assert len(text("a" * 10**6)) < 10**4


def test_what_the_board_shows() -> None:
    board = Board(event_line)
    events: list[Event] = [
        Note("reading"),
        PhaseStarted("Asking the base", 4, "answers"),
        TrainingStarted(0, 4, 24, 4, 1234),
        *(StepDone(i, i / 4, 2.5 - i / 2, 0.1, 1e-3, 100, 2.0) for i in (1, 2)),
    ]
    for event in events:
        board.follow(event)
    said = repr(board)
    assert said.startswith("reading\nTraining: 4 steps") and "Asking the base" not in said
    assert "step 2/4  [##########..........]  4.0 s left  loss 1.5000  █▁" in said
    assert "width: 50.0%" in board._repr_html_()
    board.follow(Evaluated(2, 1.25))
    board.follow(TrainingEnded(4, 6.0, 300))
    board.end()
    assert repr(board).splitlines()[-2:] == [
        "step 2: held-out loss 1.2500", "Trained in 6.0 s, 50 tokens/s",
    ]  # fmt: skip


class Shell:
    """As of Jupyter, Colab and others: their classes differ, their kernel is what they share."""

    kernel = object()


class Terminal:
    """As of IPython in a terminal, and of tests: no kernel."""


@pytest.mark.parametrize(("shell", "found"), [
    (type("ZMQInteractiveShell", (Shell,), {})(), True),
    (type("Shell", (Shell,), {})(), True),  # Colab
    (type("Interpreter", (Shell,), {})(), True),  # JupyterLite
    (type("TerminalInteractiveShell", (Terminal,), {})(), False),
    (type("InteractiveShell", (Terminal,), {"kernel": None})(), False),
    (None, False),
])  # fmt: skip
def test_which_shells_are_notebooks(
    shell: Any, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert in_notebook() is found


def test_without_ipython(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()


def test_a_notebook_that_is_gone_does_not_stop_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser may be closed and the kernel's channel with it: events are still taken."""
    import IPython.display

    class Handle:
        def update(self, item: Any) -> None:
            raise OSError("gone")

    monkeypatch.setattr(IPython.display, "display", lambda *_, **__: Handle())
    monkeypatch.setattr("lorita.workflows.progress.in_notebook", lambda: True)
    with show_progress() as show:
        show(PhaseStarted("Loading"))
        show(Note("done"))


def test_updates_come_while_a_phase_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    import IPython.display

    seen: list[str] = []

    class Handle:
        def update(self, item: Any) -> None:
            seen.append(repr(item))

    monkeypatch.setattr(IPython.display, "display", lambda *_, **__: Handle())
    monkeypatch.setattr("lorita.workflows.notebook.EVERY", 0.01)
    with notebook_display(event_line) as show:
        show(phase := PhaseStarted("Asking the base", 4, "answers"))
        phase.advance(2)
        for _ in range(200):
            if any("2/4 answers" in text for text in seen):
                break
            time.sleep(0.01)
    assert any(re.search(r"2/4 answers", text) for text in seen)
    assert seen[-1] == ""
