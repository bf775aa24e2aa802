"""``log.jsonl``: the events of the training, one per line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lorita.storage.files import write_atomic
from lorita.storage.run_folder import LOG_FILE


def last_logged(folder: Path, event: str, key: str) -> float:
    """A value of the last such event in the log: a resumed run may have had no step left."""
    lines = (folder / LOG_FILE).read_text(encoding="utf-8").splitlines()
    found = (json.loads(line) for line in reversed(lines) if f'"{event}"' in line)
    return float(next(found)[key])


def last_loss(folder: Path) -> float:
    """The training loss of the last step."""
    return last_logged(folder, "StepDone", "loss")


def continue_log(came_from: Path, folder: Path, step: int, loss: float) -> None:
    """Make the log in ``folder`` that of the run whose checkpoint of ``step`` it continues.

    The log of ``came_from``, the run's folder then, is copied. Where it is lost, the last step is
    written anew, with its ``loss``.
    """
    earlier, own = came_from / LOG_FILE, folder / LOG_FILE
    if came_from.resolve() != folder.resolve() and earlier.is_file():
        write_atomic(own, earlier.read_bytes())
    if step > 0 and (not own.is_file() or '"StepDone"' not in own.read_text(errors="replace")):
        append_log(folder, {"event": "StepDone", "step": step, "loss": loss})


def append_log(folder: Path, record: dict[str, Any]) -> None:
    """Append an event as one line of ``log.jsonl``."""
    if record["event"] == "TrainingStarted":
        _rewind_log(folder, record["first_step"])
    with (folder / LOG_FILE).open("a", encoding="utf-8") as log:
        log.write(json.dumps(record, ensure_ascii=False) + "\n")


def _rewind_log(folder: Path, step: int) -> None:
    """Remove the events after ``step``, which a resumed run repeats, and damaged lines."""
    path = folder / LOG_FILE
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if event.get("step", 0) <= step and event["event"] != "TrainingEnded":
            kept.append(line + "\n")
    write_atomic(path, "".join(kept))
