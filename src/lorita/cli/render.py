"""How results look in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from lorita.evaluation.comparison import Comparison
    from lorita.workflows.screen import Screen


def console() -> Screen:
    """Standard output; 80 columns wide if it is not a terminal."""
    from lorita.workflows.screen import Screen

    return Screen()


def print_comparison(comparison: Comparison) -> None:
    """Prompts, answers before and after, and the losses, as a table."""
    from rich.table import Table

    table = Table(title="Before and after", show_lines=True, expand=True)
    for heading, ratio in (("prompt", 2), ("base", 3), ("tuned", 3)):
        table.add_column(heading, ratio=ratio, overflow="fold")
    for answer in comparison.answers:
        cells = (answer.prompt, answer.before, answer.after)
        table.add_row(*(cell.strip() or "(nothing)" for cell in cells))
    console().print(table)
    figures = comparison.proof or comparison.loss_line()
    if figures is not None:
        print(figures)


def print_result(run: Path) -> None:
    """Where the adapter is, what makes up its size, and how to use it."""
    from lorita.models.adapter_files import WEIGHTS_FILE, size_report

    total = (run / WEIGHTS_FILE).stat().st_size
    parts = ", ".join(f"{kind} {size_text(size)}" for kind, size in size_report(run))
    print(f"Adapter: {run / WEIGHTS_FILE}, {size_text(total)} ({parts})")
    print(f'Use it:  lorita generate {run} "..."    or in Python: lorita.load("{run}")')


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
