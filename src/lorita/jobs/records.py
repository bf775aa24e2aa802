"""What is known of a file, a job and an event, and the states that a job goes through."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field
from typing import Any

VALIDATING, QUEUED, RUNNING = "validating_files", "queued", "running"
PAUSED, SUCCEEDED, FAILED, CANCELLED = "paused", "succeeded", "failed", "cancelled"
WAITING = (VALIDATING, QUEUED)
UNFINISHED = (*WAITING, RUNNING, PAUSED)
TRAINING_FILE, RESULT_FILE = "fine-tune", "fine-tune-results"
"""Purposes of files: what is trained on, and the losses that a job leaves."""
_ALPHABET = string.ascii_letters + string.digits


def new_id(prefix: str, length: int = 24) -> str:
    """A name that nobody can guess, such as ``file-…``: never one that a client has given."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(length))


@dataclass(frozen=True)
class StoredFile:
    """A file of a client. ``filename`` is what the client called it: only shown, never a path."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str


@dataclass(frozen=True)
class Failure:
    """Why a job failed: ``code`` for programs, ``param`` the part of the request at fault."""

    code: str
    message: str
    param: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The failure in OpenAI's shape."""
        return {"code": self.code, "message": self.message, "param": self.param}


@dataclass(frozen=True)
class Request:
    """What a job was asked to do. Hyperparameters are numbers, or "auto" where lorita chooses.

    ``base`` are the options of ``lorita train`` that the server had for its jobs then: its base
    model, and what lorita need not choose. A later server may have others.
    """

    model: str
    training_file: str
    validation_file: str | None = None
    n_epochs: int | str = "auto"
    batch_size: int | str = "auto"
    learning_rate_multiplier: float | str = "auto"
    suffix: str | None = None
    seed: int = 42
    metadata: dict[str, str] | None = None
    base: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """A fine-tuning job. ``run`` is the name of its run folder, ``served_as`` that of its model.

    ``chosen`` are the hyperparameters that lorita filled in; ``crashes`` counts the times that its
    process was ended from outside since it last got on.
    """

    id: str
    created_at: int
    status: str
    request: Request
    run: str
    served_as: str
    rows: int | None = None
    chosen: dict[str, Any] = field(default_factory=dict)
    error: Failure | None = None
    finished_at: int | None = None
    trained_tokens: int | None = None
    result_file: str | None = None
    crashes: int = 0
    place: int = 0
    """In the queue; the newest job has the highest."""


@dataclass(frozen=True)
class JobEvent:
    """Something that happened to a job. Of events with the same ``mark``, a job has only one."""

    message: str
    level: str = "info"
    kind: str = "message"
    data: dict[str, Any] | None = None
    mark: str | None = None
    id: str = ""
    created_at: int = 0
