"""``log.jsonl``: the events of the training, one per line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from lorita.errors import UserError
from lorita.storage.files import append_line, write_atomic
from lorita.storage.reading import parse_json, plain_size
from lorita.storage.run_folder import LOG_FILE

LARGEST = 2**28
"""Bytes of a log that is read to tell of its run: about a million steps."""
_ENDINGS = ("TrainingEnded", "EarlyStopped", "BestKept")
"""Events that a run which goes on tells again."""


def last_logged(folder: Path, event: str, key: str) -> float:
    """A value of the last such event in the log: a resumed run may have had no step left.

    It is NaN where the log no longer has one: that is no reason to lose a finished run.
    """
    for line in reversed(_lines(folder)):
        record = _event(line)
        if record is not None and record["event"] == event and _is_number(record.get(key)):
            return float(record[key])
    return math.nan  # somebody removed the file, or lines of it


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The events in the log, in their order; damaged lines are left out.

    ``event`` is a string and ``step``, where there is one, a number. All else may be anything.
    ``UserError`` if it is too large to be a log.
    """
    _require_readable(folder / LOG_FILE)
    found = (_event(line) for line in _lines(folder) if line)
    return [event for event in found if event is not None]


def _require_readable(path: Path) -> None:
    size = path.stat().st_size if path.is_file() else 0
    if size > LARGEST:
        raise UserError(f"{path}: {size:,} bytes; a log of at most {LARGEST:,} is read")


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
        _require_readable(earlier)
        write_atomic(own, earlier.read_bytes())
    if step > 0 and (not own.is_file() or '"StepDone"' not in own.read_text(errors="replace")):
        append_log(folder, {"event": "StepDone", "step": step, "loss": loss})


def append_log(folder: Path, record: dict[str, Any]) -> None:
    """Append an event as one line of ``log.jsonl``."""
    if record["event"] == "TrainingStarted":
        _rewind_log(folder, record["first_step"])
    append_line(folder / LOG_FILE, json.dumps(record, ensure_ascii=False))


def _rewind_log(folder: Path, step: int) -> None:
    """Remove the events after ``step``, which a resumed run repeats, and damaged lines."""
    if not (folder / LOG_FILE).exists():
        return
    kept = []
    for line in _lines(folder):
        event = _event(line)
        if event and event.get("step", 0) <= step and event["event"] not in _ENDINGS:
            kept.append(line + "\n")
    write_atomic(folder / LOG_FILE, "".join(kept))


def _lines(folder: Path) -> list[str]:
    path = folder / LOG_FILE
    try:
        plain_size(path)
        with path.open(encoding="utf-8", errors="replace") as log:
            return log.read().split("\n")
    except (OSError, UserError):
        return []


def _event(line: str) -> dict[str, Any] | None:
    """The event in a line; None if it is damaged."""
    try:
        values = parse_json(line)
    except ValueError:
        return None
    if not isinstance(values, dict) or not isinstance(values.get("event"), str):
        return None
    return values if _is_number(values.get("step", 0)) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
