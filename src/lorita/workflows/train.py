"""``lorita train``, and ``lorita.train`` in Python: one run from settings to result."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from lorita.errors import UserError
from lorita.runs.prepare import prepare
from lorita.runs.run import RunResult, session_events
from lorita.runs.run_model import Session
from lorita.settings.build import build_settings
from lorita.settings.schema import RunSettings
from lorita.system.processes import is_lead
from lorita.training.events import Event, Note, follow


def train(
    *,
    config: str | Path | None = None,
    on_event: Callable[[Event], None] | None = None,
    **options: Any,
) -> RunResult:
    """Train a LoRA adapter and return the finished run.

    ``options`` are the fields of ``RunSettings`` (``model``, ``data``, ``r``, …), ``config`` a
    YAML file of the same; arguments win. Progress is shown in the terminal or notebook, unless
    ``on_event`` takes the events. Raises ``UserError``, ``RunFailed`` or ``Interrupted``.
    """
    settings = build_settings(config, **options)
    if on_event is not None:
        return follow(run_events(settings), on_event)
    from lorita.workflows.progress import show_progress

    with show_progress() as show:
        return follow(run_events(settings), show)


def run_events(settings: RunSettings) -> Generator[Event, None, RunResult]:
    """The run as events; its return value is the ``RunResult``."""
    started = time.perf_counter()
    result = yield from session_events(Session(settings, prepare(settings)), started)
    if settings.push_to_hub and is_lead():
        for text in _push(settings, result.path):
            yield Note(text)
    return result


def _push(settings: RunSettings, folder: Path) -> list[str]:
    """Upload a finished run; what goes wrong there does not make the run less finished."""
    from lorita.export.push import push_run

    try:
        address, notes = push_run(folder, settings.hub_model_id)
    except UserError as error:
        command = f"lorita push {folder} {settings.hub_model_id or ''}".strip()
        again = f"The run is whole: {folder}. Once that is mended: {command}"
        hint = f"{error.hint}\n{again}" if error.hint else again
        raise UserError(error.problems, hint=hint) from error
    return [*notes, f"Pushed: {address}"]
