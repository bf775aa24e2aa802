"""``lorita demo``: a whole run on the bundled model and data."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from lorita.cli.say import tell
from lorita.cli.show_run import show_run
from lorita.cli.waiting import BEGAN

if TYPE_CHECKING:
    from lorita.training.events import Event
    from lorita.workflows.train import RunResult


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

    Takes one to three minutes on two cores and needs no network.
    """
    from lorita.workflows.demo import REMARKS, demo_settings

    settings = demo_settings(language, output_dir=output_dir, overwrite=overwrite)
    if language in REMARKS:
        tell(REMARKS[language])

    def events() -> Generator[Event, None, RunResult]:
        from lorita.workflows.train import train_events

        return train_events(settings, started=BEGAN)

    show_run(events, settings)
