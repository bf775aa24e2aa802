"""The process of one job: ``python -m lorita.jobs.worker FOLDER``.

What lies in the folder is in ``work_folder.py``. As long as the process lives it holds the
folder's lock, so that a server that has been started anew knows it.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lorita.errors import Interrupted, LoritaError, LoritaWarning, OutputError
from lorita.jobs.work_folder import DONE, FAILED, LOCK, NOTES, OUTCOME, SETTINGS, STOPPED
from lorita.storage.files import append_line, write_atomic
from lorita.storage.locks import hold
from lorita.storage.run_folder import SETTINGS_FILE
from lorita.system.signals import Terminated, caused_by_signal, leave, watch_signals

BUSY = 75
"""The exit code where another process has the job already."""
NICE = 5
"""Answers of the server come before training."""
Note = Callable[[str, bool], None]


def main() -> None:
    """Do the job whose folder is the only argument."""
    watch_signals()
    folder = Path(sys.argv[1])
    with ExitStack() as held:
        try:
            held.enter_context(hold(folder / LOCK, folder, advice=""))
        except OutputError:
            leave(BUSY)
        outcome = _outcome(folder)
        write_atomic(folder / OUTCOME, json.dumps(outcome))
    leave(0 if outcome["status"] != FAILED else 1)


def _outcome(folder: Path) -> dict[str, Any]:
    def note(text: str, is_warning: bool) -> None:
        append_line(folder / NOTES, json.dumps({"text": text, "is_warning": is_warning}))

    def warn(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, LoritaWarning):
            note(str(message), True)

    try:
        if hasattr(os, "nice"):
            os.nice(NICE)
        with warnings.catch_warnings():
            warnings.simplefilter("always", LoritaWarning)
            warnings.showwarning = warn
            _train(json.loads((folder / SETTINGS).read_text(encoding="utf-8")), note)
        return {"status": DONE}
    except (KeyboardInterrupt, Terminated, Interrupted):
        return {"status": STOPPED}
    except LoritaError as error:
        if caused_by_signal(error):
            return {"status": STOPPED}
        found = {"status": FAILED, "kind": type(error).__name__, "hint": error.hint}
        return {**found, "message": "\n".join(error.problems)}
    except Exception as error:
        if caused_by_signal(error):
            return {"status": STOPPED}
        traceback.print_exc()  # into the private log beside the settings
        return {"status": FAILED, "kind": "bug", "message": type(error).__name__}


def _train(options: dict[str, Any], note: Note) -> None:
    """The run of ``lorita train`` with these options, or what is left of it."""
    from lorita.data.batches import steps_per_epoch
    from lorita.jobs.options import pauses
    from lorita.runs.chosen import filled_in, step_size
    from lorita.runs.loaded_base import load_base
    from lorita.runs.output_folder import default_output_dir, finished
    from lorita.runs.prepare import prepare
    from lorita.runs.report.write import complete_report
    from lorita.runs.run import run_events
    from lorita.settings.build import build_settings
    from lorita.training import events

    def tell(event: events.Event) -> None:
        if isinstance(event, events.Note):
            note(event.text, event.is_warning)

    if (Path(options["output_dir"]) / SETTINGS_FILE).is_file():
        # It goes on although the machine may be another one now; then it says so.
        options |= {"resume": True, "resume_inexact": True}
    settings = build_settings(**options)
    if finished(settings, default_output_dir(settings)):
        for event in complete_report(default_output_dir(settings)):
            tell(event)
        return
    prepared = prepare(settings)
    data = prepared.data
    size = step_size(filled_in(settings, data), 1)
    save, evaluate = pauses(steps_per_epoch(len(data.windows or data.train), size))
    update = {"save_steps": save, "eval_steps": evaluate if data.held_out else None}
    settings = settings.model_copy(update=update)
    events.follow(run_events(settings, prepared, load_base(settings, prepared)), tell)


if __name__ == "__main__":
    main()
