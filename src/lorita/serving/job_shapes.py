"""Files, jobs, events and checkpoints in OpenAI's shape."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lorita.jobs.desk import CHECKPOINT, ORGANIZATION
from lorita.jobs.records import FAILED, SUCCEEDED

if TYPE_CHECKING:
    from lorita.jobs.progress import Checkpoint
    from lorita.jobs.records import Job, JobEvent, StoredFile


def file_shape(file: StoredFile) -> dict[str, Any]:
    """A file that was uploaded or made, by its id."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created_at,
        "expires_at": None,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def job_shape(job: Job) -> dict[str, Any]:
    """A job. What lorita chose for "auto" is shown once it is known."""
    asked = job.request
    numbers = {}
    for name in ("n_epochs", "batch_size", "learning_rate_multiplier"):
        given, chosen = getattr(asked, name), job.chosen.get(name)
        if given == "auto" and chosen is not None:
            whole = name != "learning_rate_multiplier" and float(chosen).is_integer()
            given = int(chosen) if whole else chosen
        numbers[name] = given
    error = job.error if job.status == FAILED else None
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "estimated_finish": None,
        "model": asked.model,
        "fine_tuned_model": job.served_as if job.status == SUCCEEDED else None,
        "organization_id": ORGANIZATION,
        "status": job.status,
        "training_file": asked.training_file,
        "validation_file": asked.validation_file,
        "result_files": [job.result_file] if job.result_file else [],
        "trained_tokens": job.trained_tokens,
        "seed": asked.seed,
        "hyperparameters": numbers,
        "method": {"type": "supervised", "supervised": {"hyperparameters": numbers}},
        "integrations": [],
        "metadata": asked.metadata,
        "error": error.as_dict() if error is not None else None,
        "user_provided_suffix": asked.suffix,
    }


def event_shape(event: JobEvent) -> dict[str, Any]:
    """An event of a job."""
    return {
        "id": event.id,
        "object": "fine_tuning.job.event",
        "created_at": event.created_at,
        "level": event.level,
        "message": event.message,
        "type": event.kind,
        "data": event.data,
    }


def checkpoint_shape(job: Job, found: Checkpoint) -> dict[str, Any]:
    """A checkpoint of a job."""
    digest = hashlib.sha256(f"{job.id} {found.step}".encode()).hexdigest()[:24]
    metrics = {
        "step": found.step,
        "train_loss": found.train_loss,
        "valid_loss": found.valid_loss,
        "full_valid_loss": found.valid_loss,
    }
    return {
        "id": f"ftckpt_{digest}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": found.created_at,
        "fine_tuning_job_id": job.id,
        "fine_tuned_model_checkpoint": f"{job.served_as}{CHECKPOINT}{found.step}",
        "step_number": found.step,
        "metrics": {name: value for name, value in metrics.items() if value is not None},
    }


def page_shape(items: Sequence[dict[str, Any]], more: bool) -> dict[str, Any]:
    """A page of a list, and whether there is more."""
    return {
        "object": "list",
        "data": list(items),
        "has_more": more,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
    }
