"""What a command says that is stopped outside the training loop: what is saved, how to go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lorita.errors import Interrupted
from lorita.runs.output_folder import continues, default_output_dir
from lorita.storage.run_folder import list_checkpoints, resume_command
from lorita.system.signals import Terminated

if TYPE_CHECKING:
    from lorita.settings.schema import RunSettings


def sweep_goes_on(overwrite: bool) -> str:
    """How to continue a sweep; with --overwrite, its finished runs would be made again."""
    return f"The same command{', without --overwrite,' if overwrite else ''} continues the sweep."


@contextmanager
def run_interruption(settings: RunSettings) -> Iterator[None]:
    """Turn a signal into ``Interrupted``, with the command that continues if there is anything."""
    folder, began = default_output_dir(settings), time.time()
    earlier = continues(settings, folder)
    try:
        yield
    except (KeyboardInterrupt, Terminated):
        saved = [c for c in list_checkpoints(folder) if earlier or c.stat().st_mtime >= began - 1]
        hint = f"Continue with: {resume_command(folder)}" if saved else "Nothing was saved."
        raise Interrupted("interrupted", hint=hint) from None


@contextmanager
def sweep_interruption(*, overwrite: bool = False) -> Iterator[None]:
    """Turn a signal into ``Interrupted``: a sweep is continued by the command that began it."""
    try:
        yield
    except (KeyboardInterrupt, Terminated):
        raise Interrupted("interrupted", hint=sweep_goes_on(overwrite)) from None
