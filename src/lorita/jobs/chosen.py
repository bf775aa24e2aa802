"""The hyperparameters that lorita chose for a job, where it was asked for "auto"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorita.errors import LoritaError
from lorita.settings.build import build_settings
from lorita.storage.run_folder import SETTINGS_FILE


def chosen_hyperparameters(run: Path, learning_rate: float) -> dict[str, Any]:
    """By OpenAI's names, from the settings that a run has written; nothing if it has not yet.

    ``learning_rate`` is that of a multiplier of 1.
    """
    try:
        settings = build_settings(run / SETTINGS_FILE)
    except LoritaError:
        return {}
    return {
        "n_epochs": settings.num_train_epochs,
        "batch_size": settings.per_device_train_batch_size,
        "learning_rate_multiplier": settings.learning_rate / learning_rate,
    }
