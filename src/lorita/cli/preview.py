"""``lorita preview``: how the data is understood, before any training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lorita.cli.options import with_run_options
from lorita.cli.positional import read_targets
from lorita.cli.say import say, say_exactly
from lorita.cli.waiting import waiting
from lorita.settings.facts import options_where


@with_run_options(without=options_where(previewed=False))
def command(
    *targets: Annotated[
        str,
        Parameter(
            help="Data as for --data, and the model; or a settings file (run.yaml) or run folder."
        ),
    ],
    html: Annotated[
        Path | None, Parameter(help="Also write an HTML page that shows the rows in full.")
    ] = None,
    json: Annotated[bool, Parameter(help="Print the preview as JSON.", negative=())] = False,
    **options: Any,
) -> None:
    """Show how the data is understood, token by token.

    Shows which columns are used, how long the rows are, which tokens of the first rows are trained,
    and the problems found. Needs only the model's tokenizer.
    """
    from lorita.cli.preview_text import print_preview
    from lorita.system.terminal_text import json_text

    if html is not None:
        from lorita.cli.preview_page import check_page, write_page

        check_page(html)

    config = read_targets(targets, options, first="data")
    with waiting("Reading the rows"):
        from lorita.workflows.preview import preview

        found = preview(config=config, **options)
    if html is not None:
        write_page(html, found)
    if json:
        say_exactly(json_text(found.as_dict(), indent=1))
    else:
        print_preview(found)
    if html is not None and not json:
        say(f"\nPage: {html}")
