"""``lorita runs``: the runs of a folder, or one of them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lorita.cli.options import Json
from lorita.cli.render import UNBROKEN, console, plain_table
from lorita.cli.say import say, say_json

if TYPE_CHECKING:
    from lorita.workflows.runs import RunLine, RunView

WIDE = 100
"""Columns from which runs are shown in a table."""


def command(
    folder: Annotated[
        Path | None, Parameter(help="A folder of runs (default: runs), or the folder of one run.")
    ] = None,
    /,
    *,
    json: Json = False,
) -> None:
    """List the runs of a folder, or show one.

    Of each run: its model and data, when it was made, the loss on held-out rows before and after,
    and what was found. The newest comes first.
    """
    from lorita.workflows.runs import is_one_run, list_runs, view_run

    if folder is not None and is_one_run(folder):
        view = view_run(folder)
        if json:
            say_json(view.as_dict())
        else:
            _print_run(view)
        return
    found = list_runs(folder)
    if json:
        say_json([run.as_dict() for run in found])
    elif not found:
        say(f"No runs in {folder or 'runs'}.")
    else:
        _print_runs(found)


def _print_run(view: RunView) -> None:
    say(view.summary)
    for text in (view.state, *view.sentences):
        if text is not None:
            say(text)
    say(f"Made: {view.line.when}")
    say(f"Page: lorita report {shlex.quote(view.line.run)}")


def _print_runs(found: list[RunLine]) -> None:
    screen = console()
    if WIDE <= screen.width < UNBROKEN:
        headings = ("run", "model", "data", "when", "held-out loss", "found")
        rows = [(run.run, *_cells(run)) for run in found]
        screen.print(plain_table(headings, rows))
        return
    for run in found:
        say(run.run)
        say("  " + ", ".join(cell for cell in _cells(run) if cell))


def _cells(run: RunLine) -> tuple[str, str, str, str, str]:
    before, after = run.held_out_loss_base, run.held_out_loss
    loss = "" if before is None or after is None else f"{before:.3f} to {after:.3f}"
    what = run.problem or "; ".join(run.verdicts)
    return run.model, ", ".join(run.data), run.when, loss, what
