"""``lorita demo``: the whole story on the bundled model and data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from lorita.cli.train import run_and_print


def command(
    *,
    language: Annotated[Literal["en", "es"], Parameter(help="English or Spanish prompts.")] = "en",
    output_dir: Annotated[Path, Parameter(help="Folder of the run.")] = Path("runs/demo"),
    overwrite: Annotated[bool, Parameter(help="Replace the run in output_dir.")] = False,
) -> None:
    """Train the bundled model on bundled prompts; see before and after.

    Takes a minute or two on two cores, and needs no network.
    """
    from lorita.workflows.demo import demo_settings

    run_and_print(demo_settings(language, output_dir=output_dir, overwrite=overwrite))
