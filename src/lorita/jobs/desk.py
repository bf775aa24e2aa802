"""What clients ask for: files, and jobs that are created, listed, stopped and continued.

Everything but the run folders themselves lies in ``.lorita-jobs``, in the folder of runs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from lorita.errors import OutputError
from lorita.jobs.database import Database
from lorita.jobs.files import FileStore
from lorita.jobs.ownership import require_own
from lorita.jobs.progress import Checkpoint, checkpoints
from lorita.jobs.records import (
    CANCELLED,
    PAUSED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    TRAINING_FILE,
    UNFINISHED,
    VALIDATING,
    WAITING,
    Job,
    JobEvent,
    Request,
    StoredFile,
    new_id,
)
from lorita.jobs.refusals import Conflict, Missing, QueueFull, Refused
from lorita.jobs.supervisor import Supervisor
from lorita.jobs.work_folder import DATA_FOLDER
from lorita.storage.locks import LOCK_FILE, hold
from lorita.storage.private import PRIVATE_FOLDER
from lorita.storage.run_folder import remove_run

MOST_UNFINISHED = 100
ORGANIZATION = "lorita"
CHECKPOINT = ":ckpt-step-"
"""Between the name of a job's model and a step, in the name of a checkpoint."""
T = TypeVar("T", StoredFile, Job)


class Desk:
    """The files and jobs of one folder of runs, which one server at a time sees to.

    ``base`` are options of ``lorita train`` for all jobs, ``names`` what requests may call the base
    model. ``OutputError``: another server's, not writable, or not made here (see ``allowed``).
    """

    def __init__(
        self, runs: Path, base: dict[str, Any], names: list[str], *, allowed: bool = False
    ) -> None:
        self.runs, self.names, self._base = runs.resolve(), names, base
        self._held = ExitStack()
        data = self.runs / DATA_FOLDER
        try:
            if data.is_symlink():
                raise OutputError(f"{data}: a symbolic link, so nothing is written there")
            data.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
            advice = "One server at a time sees to the jobs of a folder; serve without: --no-jobs."
            self._held.enter_context(hold(data / LOCK_FILE, data, advice=advice))
            require_own(data, allowed=allowed)
            self.database = Database(data / "jobs.sqlite3")
            self.files = FileStore(data / "files", self.database)
            self._supervisor = Supervisor(
                self.database, self.files, work=data / "work", runs=self.runs
            )
        except OSError as error:
            self._held.close()
            raise OutputError(
                f"{data}: cannot be written ({error.strerror or error})",
                hint="Files and jobs are kept there. To serve without them: --no-jobs.",
            ) from None
        except BaseException:
            self._held.close()
            raise
        self._called: dict[str, Job] = {job.run: job for job in self.database.jobs()}

    def start(self) -> None:
        """Begin to do jobs."""
        self._supervisor.start()

    def stop(self, *, signalled: bool = False) -> None:
        """Stop; the running job saves a checkpoint and goes on with the next server.

        ``signalled``: this process was told to end, and its children with it (``system/signals``).
        """
        self._supervisor.stop(signalled=signalled)
        self.database.close()
        self._held.close()

    def served_as(self, run: Path) -> str | None:
        """What a finished run in the folder is called in requests; None: it is not served."""
        job = self._called.get(run.name)
        if job is None:
            return run.name
        now = self.database.job(job.id)
        return job.served_as if now is not None and now.status != CANCELLED else None

    def delete_model(self, name: str) -> None:
        """Delete the run of a job that has succeeded. ``Refused`` for any other model."""
        for job in self.database.jobs([SUCCEEDED]):
            if job.served_as == name:
                remove_run(self.runs / job.run)
                return
        raise Refused("Only models that a fine-tuning job has made can be deleted.", "model")

    # Files

    def list_files(
        self, purpose: str | None, after: str | None, limit: int, *, newest_first: bool
    ) -> tuple[list[StoredFile], bool]:
        """A page of files, and whether there are more behind it."""
        found = [f for f in self.database.files() if purpose in (None, f.purpose)]
        return _page(found[::-1] if newest_first else found, after, limit)

    def file(self, file: str) -> StoredFile:
        """The file of this id; ``Missing`` if there is none."""
        found = self.database.file(file)
        if found is None:
            raise _no_file(file)
        return found

    def open_file(self, file: str) -> tuple[StoredFile, BinaryIO]:
        """A file and its content, to be read and closed; ``Missing`` if there is none."""
        found = self.file(file)
        try:
            return found, self.files.path(found.id).open("rb")
        except FileNotFoundError:  # deleted just now
            raise _no_file(file) from None

    def delete_file(self, file: str) -> None:
        """Delete a file. ``Conflict`` while a job needs it."""
        self.file(file)
        for job in self.database.jobs(UNFINISHED):
            if file in (job.request.training_file, job.request.validation_file):
                raise Conflict(
                    f"{file} is needed by the job {job.id}, which is not finished. Cancel the job "
                    "first.",
                    "id",
                )
        self.files.remove(file)

    # Jobs

    def create(self, request: Request) -> Job:
        """A new job at the end of the queue. ``Refused`` if it names what is not there."""
        if request.model not in self.names:
            known = ", ".join(dict.fromkeys(self.names))
            raise Refused(
                f"The model '{request.model[:100]}' cannot be fine-tuned here: this server trains "
                f"its base, which is called {known}. Models that are fine-tuned already are not "
                "trained further.",
                "model",
                "model_not_available",
            )
        for param in ("training_file", "validation_file"):
            self._check_file(getattr(request, param), param)
        with self.database.change():
            waiting = len(self.database.jobs(UNFINISHED))
            if waiting >= MOST_UNFINISHED:
                raise QueueFull(f"{waiting} jobs are not finished yet. Cancel some of them first.")
            short = new_id("", 8)
            name = f"ft:{_plain(self.names[0])}:{ORGANIZATION}:{request.suffix or ''}:{short}"
            run = f"ft-{request.suffix + '-' if request.suffix else ''}{short}"
            request = replace(request, base=self._base)
            job = Job(new_id("ftjob-"), int(time.time()), VALIDATING, request, run, name)
            self.database.add_job(job)
            self._say(job, f"Created fine-tuning job: {job.id}")
            self._say(job, f"Validating training file: {request.training_file}")
        self._called[run] = job
        self._supervisor.wake()
        return job

    def _check_file(self, file: str | None, param: str) -> None:
        if file is None and param == "validation_file":
            return
        found = self.database.file(file or "")
        if found is None:
            raise Refused(f"invalid {param}: {str(file)[:100]}", param, "invalid_file_id")
        if found.purpose != TRAINING_FILE:
            raise Refused(
                f"The file {found.id} has the purpose '{found.purpose}', and {param} needs one of "
                f"the purpose '{TRAINING_FILE}'.",
                param,
                "invalid_file_purpose",
            )

    def list_jobs(
        self, after: str | None, limit: int, keep: Callable[[Job], bool]
    ) -> tuple[list[Job], bool]:
        """A page of jobs, the newest first, and whether there are more behind it."""
        found = sorted(self.database.jobs(), key=lambda job: -job.place)
        return _page([job for job in found if keep(job)], after, limit)

    def job(self, job: str) -> Job:
        """The job of this id; ``Missing`` if there is none."""
        found = self.database.job(job)
        if found is None:
            raise Missing(f"Could not find fine tune: {job[:100]}", "fine_tuning_job_id")
        return found

    def cancel(self, job: str) -> Job:
        """End a job that is not finished."""
        return self._move(job, UNFINISHED, CANCELLED, "Fine-tuning job cancelled", ended=True)

    def pause(self, job: str) -> Job:
        """Stop a job until it is resumed; a running one saves a checkpoint first."""
        return self._move(job, (*WAITING, RUNNING), PAUSED, "Fine-tuning job paused")

    def resume(self, job: str) -> Job:
        """Put a paused job back into the queue, where it was."""
        next_state = VALIDATING if self.job(job).rows is None else QUEUED
        return self._move(job, (PAUSED,), next_state, "Fine-tuning job resumed")

    def _move(
        self, job: str, before: Iterable[str], after: str, text: str, *, ended: bool = False
    ) -> Job:
        found = self.job(job)
        with self.database.change():
            if not self.database.move(job, before, after):
                now = self.job(job).status
                done = {CANCELLED: "cancelled", PAUSED: "paused"}.get(after, "resumed")
                raise Conflict(
                    f"The job {job} is {now}, so it cannot be {done}.", code="invalid_job_state"
                )
            if ended:
                self.database.set_job(job, finished_at=int(time.time()))
            self._say(found, text)
        self._supervisor.wake()
        return self.job(job)

    def events(self, job: str, after: str | None, limit: int) -> tuple[list[JobEvent], bool]:
        """A page of a job's events, the newest first, and whether there are more behind it."""
        self.job(job)
        found = self.database.events(job, after, limit + 1)
        if found is None:
            raise Missing(f"No such event of this job: {str(after)[:100]}", "after")
        return found[:limit], len(found) > limit

    def checkpoints(self, job: str) -> list[Checkpoint]:
        """The checkpoints of a job that are kept, the newest first."""
        return checkpoints(self.runs / self.job(job).run)

    def checkpoint_folder(self, name: str) -> Path | None:
        """The folder of a checkpoint of a job that has succeeded, by the name of its model."""
        of_job, _, step = name.rpartition(CHECKPOINT)
        if not step.isdecimal() or not step.isascii():
            return None
        for job in self.database.jobs([SUCCEEDED]):
            folder = self.runs / job.run
            if job.served_as == of_job and any(c.step == int(step) for c in checkpoints(folder)):
                return folder / f"checkpoint-{int(step)}"
        return None

    def _say(self, job: Job, text: str) -> None:
        self.database.add_event(job.id, JobEvent(text))


def _no_file(file: str) -> Missing:
    return Missing(f"No such File object: {file[:100]}", "id")


def _page(found: list[T], after: str | None, limit: int) -> tuple[list[T], bool]:
    """What follows the item of the id ``after``, at most ``limit``; whether there is more."""
    start = 0
    if after is not None:
        places = [n for n, item in enumerate(found) if item.id == after]
        if not places:
            raise Missing(f"There is nothing of this id to begin after: {after[:100]}", "after")
        start = places[0] + 1
    return found[start : start + limit], len(found) > start + limit


def _plain(name: str) -> str:
    """A name of a base as a part of a model's name."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name.rstrip("/").rpartition("/")[2]) or "base"
