"""How results look in a terminal."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.cli.say import say

if TYPE_CHECKING:
    from rich.table import Table

    from lorita.evaluation.comparison import Answer, Comparison
    from lorita.workflows.screen import Screen


def console() -> Screen:
    """Standard output; in a pipe or file, lines are as long as they need to be.

    ``COLUMNS``, where it is set, is a width that was asked for.
    """
    from lorita.workflows.screen import Screen

    screen = Screen()
    if not screen.file.isatty() and "COLUMNS" not in os.environ:
        screen.width = UNBROKEN
    return screen


UNBROKEN = 10_000
"""Columns of what is no terminal."""
SIDE_BY_SIDE = 72
"""Columns from which answers are shown beside each other."""


def print_comparison(comparison: Comparison) -> None:
    """Prompts, answers before and after, and the losses; a table where there is room for one."""
    screen = console()
    if SIDE_BY_SIDE <= screen.width < UNBROKEN:
        screen.print(_side_by_side(comparison))
    else:
        say("Before and after")
        for answer in comparison.answers:
            say("")
            for name, text in zip(ANSWER, _cells(answer), strict=True):
                say(f"{name}: {text}")
        say("")
    figures = comparison.proof or comparison.loss_line()
    if figures is not None:
        say(figures)


ANSWER = ("prompt", "base", "tuned")


def _cells(answer: Answer) -> list[str]:
    texts = (answer.prompt, answer.before, answer.after)
    return [text.strip() or "(nothing)" for text in texts]


def _side_by_side(comparison: Comparison) -> Table:
    from rich.table import Table

    table = Table(title="Before and after", show_lines=True, expand=True)
    for heading, ratio in zip(ANSWER, (2, 3, 3), strict=True):
        table.add_column(heading, ratio=ratio, overflow="fold")
    for answer in comparison.answers:
        table.add_row(*_cells(answer))
    return table


def print_result(run: Path) -> None:
    """Where the adapter is, what makes up its size, and how to use it."""
    from lorita.models.adapter_files import WEIGHTS_FILE, size_report
    from lorita.storage.run_folder import REPORT_FILE

    total = (run / WEIGHTS_FILE).stat().st_size
    parts = ", ".join(f"{kind} {size_text(size)}" for kind, size in size_report(run))
    say(f"Adapter: {run / WEIGHTS_FILE}, {size_text(total)} ({parts})")
    if (run / REPORT_FILE).is_file():
        say(f"Report:  {run / REPORT_FILE}")
    say(f'Use it:  lorita generate {shlex.quote(str(run))} "..."')
    say(f'Python:  lorita.load("{run}").generate("...")')


def size_text(size: int) -> str:
    """A number of bytes in kB or MB."""
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def plain_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table; columns of numbers are aligned to the right."""
    from rich.table import Table

    table = Table()
    for i, heading in enumerate(headings):
        numeric = all(row[i].replace(",", "").replace(".", "").isdigit() for row in rows)
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
