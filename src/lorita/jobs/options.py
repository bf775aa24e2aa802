"""A job's hyperparameters as options of ``lorita train``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from lorita.jobs.records import Job
from lorita.settings.schema import RunSettings

LEARNING_RATE: float = RunSettings.model_fields["learning_rate"].default
"""What a ``learning_rate_multiplier`` of 1 means: the default of ``lorita train``."""
KEPT_CHECKPOINTS = 3
LEAST_STEPS, MOST_STEPS = 10, 50
"""Between two checkpoints."""


def run_options(
    job: Job,
    base: dict[str, Any],
    folder: Path,
    training: Path,
    validation: tuple[Path, int] | None,
) -> dict[str, Any]:
    """The options of a job's run in ``folder``; ``base`` are those that name the base model.

    ``validation`` is the file and its number of rows, which are all measured.
    Where there is no validation file, nothing is held out, as OpenAI has it. A given number of
    epochs is kept to the end; with "auto" lorita chooses, and may stop early.
    """
    asked = job.request
    options: dict[str, Any] = {
        **base,
        "data": [str(training)],
        "file_type": "json",
        "eval_fraction": None if validation else 0.0,
        "eval_data": str(validation[0]) if validation else None,
        "max_eval_samples": validation[1] if validation else None,
        "output_dir": str(folder),
        "seed": asked.seed,
        "save_total_limit": KEPT_CHECKPOINTS,
        "save_steps": MOST_STEPS,
    }
    if asked.n_epochs != "auto":
        options["num_train_epochs"] = float(asked.n_epochs)
        options["early_stopping_patience"] = 0 if validation else None
    if asked.batch_size != "auto":
        options["per_device_train_batch_size"] = asked.batch_size
    if asked.learning_rate_multiplier != "auto":
        options["learning_rate"] = LEARNING_RATE * float(asked.learning_rate_multiplier)
    return {name: value for name, value in options.items() if value is not None}


def pauses(steps_per_epoch: int) -> tuple[int, int]:
    """Steps between two checkpoints, and between two measurements of the validation file.

    Both come at the end of an epoch, or of several where these are short; a long epoch has
    checkpoints within it, so that little is lost when a process is killed.
    """
    epochs = max(1, math.ceil(LEAST_STEPS / steps_per_epoch))
    evaluate = steps_per_epoch * epochs
    save = math.ceil(steps_per_epoch / math.ceil(steps_per_epoch / MOST_STEPS))
    return (evaluate if steps_per_epoch <= MOST_STEPS else save), evaluate
