"""A job's hyperparameters as options of ``lorita train``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from lorita.errors import SettingsError
from lorita.jobs.records import Job, Request
from lorita.settings.build import build_settings, option_name, read_yaml
from lorita.settings.schema import RunSettings

LEARNING_RATE: float = RunSettings.model_fields["learning_rate"].default
"""What a ``learning_rate_multiplier`` of 1 means, unless the server says otherwise."""
KEPT_CHECKPOINTS = 3
FIXED = (
    "model", "revision", "trust_remote_code", "data", "data_name", "data_split", "data_revision",
    "file_type", "streaming", "format", "map_row", "eval_data", "eval_fraction",
    "max_eval_samples", "output_dir", "overwrite", "resume", "resume_from_checkpoint",
    "resume_inexact", "seed", "save_steps", "save_total_limit", "eval_steps", "push_to_hub",
    "hub_model_id", "time_budget",
)  # fmt: skip
"""Options that the server or the request decides, or that a job has no use for."""
LEAST_STEPS, MOST_STEPS = 10, 50
"""Between two checkpoints."""


def read_job_settings(file: Path) -> dict[str, Any]:
    """The options of ``lorita train`` for all jobs, from a YAML file.

    ``SettingsError`` for unknown options, impossible values, and those that jobs decide.
    """
    names = {option_name(str(key)) for key in read_yaml(file)}
    if fixed := [name for name in FIXED if name in names]:
        raise SettingsError(
            f"{file}: {', '.join(fixed)}: not for the settings of jobs",
            hint="The server, its base and each request decide that.",
        )
    settings = build_settings(file, model="base", data=["rows"])
    given = settings.model_fields_set - {"model", "data"}
    found: dict[str, Any] = settings.model_dump(mode="json", include=given)
    return found


def run_options(
    job: Job, folder: Path, training: Path, validation: tuple[Path, int] | None
) -> dict[str, Any]:
    """The options of a job's run in ``folder``.

    ``validation`` is the file and its number of rows, which are all measured. What the request
    leaves to lorita is as the server has it for all jobs.
    Where there is no validation file, nothing is held out, as OpenAI has it. A given number of
    epochs is kept to the end; with "auto" lorita chooses, and may stop early.
    """
    asked, base = job.request, job.request.base
    options: dict[str, Any] = {
        **base,
        "data": [str(training)],
        "file_type": "json",
        "eval_fraction": None if validation else 0.0,
        "max_steps": base.get("max_steps") if asked.n_epochs == "auto" else None,
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
        options["learning_rate"] = usual_rate(asked) * float(asked.learning_rate_multiplier)
    return {name: value for name, value in options.items() if value is not None}


def usual_rate(request: Request) -> float:
    """The learning rate of a multiplier of 1."""
    return float(request.base.get("learning_rate", LEARNING_RATE))


def pauses(steps_per_epoch: int) -> tuple[int, int]:
    """Steps between two checkpoints, and between two measurements of the validation file.

    Both come at the end of an epoch, or of several where these are short; a long epoch has
    checkpoints within it, so that little is lost when a process is killed.
    """
    epochs = max(1, math.ceil(LEAST_STEPS / steps_per_epoch))
    evaluate = steps_per_epoch * epochs
    save = math.ceil(steps_per_epoch / math.ceil(steps_per_epoch / MOST_STEPS))
    return (evaluate if steps_per_epoch <= MOST_STEPS else save), evaluate
