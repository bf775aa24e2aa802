"""What a job's process writes while it trains, as events, checkpoints and the result file."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorita.errors import LoritaError
from lorita.jobs.records import JobEvent
from lorita.jobs.work_folder import DATA_FOLDER, NOTES
from lorita.storage.run_folder import LOG_FILE, list_checkpoints
from lorita.storage.run_log import read_log
from lorita.storage.run_record import read_record

COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")
"""Of the result file. lorita measures no accuracy: these cells are empty."""
_MOST_READ = 2**22


@dataclass
class Tail:
    """The complete lines that were added to a file since it was last read."""

    path: Path
    _file: int = 0
    _read: int = 0

    def new(self) -> Iterator[dict[str, Any]]:
        """The new lines, each a JSON object; a file that was replaced is read from its start."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._file or status.st_size < self._read:
                    self._file, self._read = status.st_ino, 0
                file.seek(self._read)
                text = file.read(_MOST_READ)
        except OSError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                yield value


@dataclass
class Progress:
    """Follows one job. ``steps`` is how many steps its run has."""

    run: Path
    work: Path
    steps: int | None = None
    _log: Tail = field(init=False)
    _notes: Tail = field(init=False)

    def __post_init__(self) -> None:
        self._log, self._notes = Tail(self.run / LOG_FILE), Tail(self.work / NOTES)

    def new_events(self) -> Iterator[JobEvent]:
        """What has happened since the last call. Steps that are repeated have the same marks."""
        for note in self._notes.new():
            text = without_paths(str(note.get("text", "")), self.run.parent)
            mark = "note " + hashlib.sha256(text.encode(errors="replace")).hexdigest()
            yield JobEvent(text, "warn" if note.get("is_warning") else "info", mark=mark)
        for event in self._log.new():
            if event.get("event") in ("TrainingStarted", "TrainingShortened"):
                self.steps = event.get("max_steps")
            found = self._told(event)
            if found is not None:
                yield found

    def _told(self, event: dict[str, Any]) -> JobEvent | None:
        kind, step = event.get("event"), event.get("step")
        place = f"Step {step}/{self.steps}" if self.steps else f"Step {step}"
        if kind == "StepDone":
            data = {"step": step, "total_steps": self.steps, "train_loss": event["loss"]}
            said = f"{place}: training loss={event['loss']:.4f}"
            return JobEvent(said, kind="metrics", data=data, mark=f"step {step}")
        if kind == "Evaluated":
            loss = event["loss"]
            data = {"step": step, "total_steps": self.steps, "valid_loss": loss,
                    "full_valid_loss": loss}  # fmt: skip
            said = f"{place}: validation loss={loss:.4f}" if loss is not None else place
            return JobEvent(said, kind="metrics", data=data, mark=f"evaluated {step}")
        if kind == "StepSkipped":
            said = f"{place} was skipped: its loss or gradient is not finite"
            return JobEvent(said, "warn", mark=f"skipped {step}")
        if kind == "CheckpointSaved":
            return JobEvent(f"Checkpoint created at step {step}", mark=f"checkpoint {step}")
        if kind == "EarlyStopped":
            said = f"{place}: training ended early, the validation loss no longer falls"
            return JobEvent(said, mark="early stop")
        return None


def without_paths(text: str, runs: Path) -> str:
    """A message of lorita's for a client, who has no use for this machine's folders."""
    for folder in (runs / DATA_FOLDER / "files", runs / DATA_FOLDER / "work", runs):
        text = text.replace(f"{folder}/", "")
    return text


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint that lies in a run folder; losses in nats per token."""

    step: int
    created_at: int
    train_loss: float | None
    valid_loss: float | None


def checkpoints(run: Path) -> list[Checkpoint]:
    """The checkpoints of a run, the newest first."""
    found = list_checkpoints(run)[::-1]
    losses = Losses(run) if found else None
    made = []
    for path in found:
        step = int(path.name.partition("-")[2])
        try:
            created = int(path.stat().st_mtime)
        except OSError:
            continue  # replaced by newer ones just now
        assert losses is not None
        made.append(Checkpoint(step, created, losses.train.get(step), losses.valid.get(step)))
    return made


class Losses:
    """The losses of a run by step, and the tokens that it was trained on, from its log."""

    def __init__(self, run: Path) -> None:
        self.train: dict[int, float] = {}
        self.valid: dict[int, float] = {}
        self.tokens = 0
        for event in read_log(run):
            step, loss = event.get("step"), event.get("loss")
            if not isinstance(step, int) or not isinstance(loss, (int, float)):
                continue
            if event["event"] == "StepDone":
                self.train[step] = float(loss)
                self.tokens += int(event.get("tokens") or 0)
            elif event["event"] == "Evaluated":
                self.valid[step] = float(loss)

    def csv(self) -> bytes:
        """The result file: a line for each step."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        for step in sorted(self.train.keys() | self.valid.keys()):
            writer.writerow(
                [step, _cell(self.train.get(step)), "", _cell(self.valid.get(step)), ""]
            )
        return out.getvalue().encode()


def final_losses(run: Path) -> Losses:
    """The losses of a finished run, with the validation loss that was measured at its end."""
    losses = Losses(run)
    try:
        record = read_record(run)
    except LoritaError:
        return losses
    if record is not None and losses.train and record.figures.held_out_loss_tuned is not None:
        last = record.figures.kept_step or max(losses.train)
        losses.valid[last] = record.figures.held_out_loss_tuned
    return losses


def _cell(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"
