"""What is known about the run in a folder, from its files alone.

A run that is still going on, or that failed, has no record and no comparison yet. Its log tells
as much as there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.errors import SettingsError, UserError
from lorita.evaluation.comparison import JSON_FILE, read_comparison
from lorita.runs.report.training_log import TrainingLog, read_training
from lorita.settings.build import build_settings
from lorita.storage.names import meant
from lorita.storage.run_folder import LOG_FILE, RECORD_FILE, SETTINGS_FILE
from lorita.storage.run_record import read_record

if TYPE_CHECKING:
    from lorita.evaluation.comparison import Comparison
    from lorita.settings.schema import RunSettings
    from lorita.storage.run_record import RunRecord


@dataclass(frozen=True)
class Story:
    """The run in ``folder``. ``settings`` are None where this version cannot read them any more,
    ``unread`` says why."""

    folder: Path
    settings: RunSettings | None
    unread: str | None
    record: RunRecord | None
    comparison: Comparison | None
    training: TrainingLog

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        return self.record is not None

    @property
    def final_loss(self) -> float | None:
        """Training loss of the last step, in nats per token."""
        losses = self.training.curve("loss")
        return losses[-1][1] if losses else None

    def held_out_curve(self) -> list[tuple[float, float]]:
        """Held-out losses by step: before the training, during it, and of the final adapter."""
        points = {float(step): loss for step, loss in self.training.held_out}
        held = self.comparison.held_out if self.comparison else None
        if held is not None and self.training.steps:
            points.setdefault(0.0, held.before)
            best = self.settings is not None and self.settings.load_best_model_at_end
            if not best:  # the final adapter is that of the last step
                points.setdefault(float(self.training.steps[-1].number), held.after)
        return sorted(points.items())


def read_story(folder: Path) -> Story:
    """What the files of a run tell; ``UserError`` if there is no run or a file is damaged."""
    folder = folder.expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder", hint=meant(str(folder)))
    if not any((folder / name).is_file() for name in (RECORD_FILE, LOG_FILE)):
        raise UserError(
            f"{folder}: holds no run of lorita (neither {RECORD_FILE} nor {LOG_FILE})",
            hint="Name a folder that lorita train wrote, such as runs/NAME.",
        )
    settings, unread = _settings(folder)
    return Story(
        folder=folder,
        settings=settings,
        unread=unread,
        record=read_record(folder),
        comparison=read_comparison(folder) if (folder / JSON_FILE).is_file() else None,
        training=read_training(folder),
    )


def _settings(folder: Path) -> tuple[RunSettings | None, str | None]:
    """The run's settings, or why they cannot be read: a report goes without them."""
    if not (folder / SETTINGS_FILE).is_file():
        return None, f"there is no {SETTINGS_FILE}"
    try:
        return build_settings(folder / SETTINGS_FILE), None
    except SettingsError as error:
        return None, "; ".join(error.problems)
