"""Writes ``report.html``, ``loss.svg`` and ``loss.png`` into the folder of a run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.runs.report.page import loss_file, loss_picture, page
from lorita.runs.report.story import read_story
from lorita.storage.files import write_atomic
from lorita.storage.manifest import claim
from lorita.storage.run_folder import LOSS_FILE, LOSS_PICTURE, REPORT_FILE, open_run_dir
from lorita.system.processes import is_lead
from lorita.training.events import Event, Note, PhaseStarted

if TYPE_CHECKING:
    from lorita.runs.report.story import Story


def write_report(folder: Path) -> Path:
    """Make the report of the run in ``folder``, which nobody else may be writing to.

    Raises ``UserError`` if there is no run or its files are damaged.
    """
    story = read_story(folder)
    with open_run_dir(story.folder, continues=True, overwrite=False):
        return _write(story)


def complete_report(folder: Path) -> Iterator[Event]:
    """Make the report of a finished run that was killed before it had one: it is written last.

    Nothing is lost if that cannot be done, which is said.
    """
    if (folder / REPORT_FILE).is_file() or not is_lead():
        return
    try:
        write_report(folder)
    except Exception as error:
        yield Note(not_made(folder, error), is_warning=True)


def report_events(folder: Path) -> Iterator[Event]:
    """Make the report of a run that has just ended, by the one who holds its folder.

    The run is whole already: whatever goes wrong here is said, and loses nothing.
    """
    yield PhaseStarted("Making the report")
    try:
        _write(read_story(folder))
    except Exception as error:
        yield Note(not_made(folder, error), is_warning=True)


def not_made(folder: Path, error: Exception) -> str:
    """What to say where the report of what is in ``folder`` could not be made."""
    why = f"{type(error).__name__}: {error}".removesuffix(": ")
    return (
        f"The report could not be made ({why}). Everything else is complete. To try again: "
        f"lorita report {shlex.quote(str(folder))}"
    )


def _write(story: Story) -> Path:
    content: dict[str, str | bytes | None] = {
        LOSS_FILE: loss_file(story),
        LOSS_PICTURE: loss_picture(story),
        REPORT_FILE: page(story),
    }
    claim(story.folder, [name for name, made in content.items() if made is not None])
    for name, made in content.items():
        if made is not None:
            write_atomic(story.folder / name, made)
    return story.folder / REPORT_FILE
