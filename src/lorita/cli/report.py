"""``lorita report``: a page about a run, or about several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lorita.cli.say import say


def command(
    runs: Annotated[
        list[Path], Parameter(help="Run folders, or the folder of a sweep.", negative=())
    ],
    /,
    *,
    output: Annotated[
        Path | None,
        Parameter(
            help="HTML file to write. Default: report.html in the folder of the run or sweep; "
            "several runs need a name."
        ),
    ] = None,
) -> None:
    """Make the page that shows a run, or compares several.

    Every run ends with such a page, report.html in its folder: one file that needs no network and
    no program but a browser. This makes it anew. Of several runs, or of a sweep, it makes a page
    that shows what differs between them and which is best.
    """
    from lorita.workflows.report import make_report

    say(f"Page: {make_report(runs, output)}")
