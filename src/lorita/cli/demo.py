"""``lorita demo``: a whole run on the bundled model and data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from lorita.cli.show_run import show_run


def command(
    *,
    language: Annotated[
        Literal["en", "es"],
        Parameter(
            help="Language of the prompts that are trained and answered; the messages are English. "
            "The bundled model hardly speaks Spanish."
        ),
    ] = "en",
    output_dir: Annotated[Path, Parameter(help="Run folder.")] = Path("runs/demo"),
    overwrite: Annotated[bool, Parameter(help="Replace the run in output_dir.")] = False,
) -> None:
    """Train the bundled model on bundled prompts and show the difference.

    Takes a minute or two on two cores and needs no network.
    """
    from lorita.workflows.demo import REMARKS, demo_settings
    from lorita.workflows.screen import Screen
    from lorita.workflows.train import train_events

    settings = demo_settings(language, output_dir=output_dir, overwrite=overwrite)
    if language in REMARKS:
        Screen(stderr=True).print(REMARKS[language])
    show_run(train_events(settings), settings)
