"""One thread that sees to it that jobs are done, one after another.

The database says what each job should be; this thread makes it so. It can be killed at any moment:
the next server finds a process that still trains by its lock, and starts one anew where there is
none, which continues from the last checkpoint.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from pathlib import Path
from typing import Any

from lorita.jobs import work_folder
from lorita.jobs.chosen import chosen_hyperparameters
from lorita.jobs.database import Database
from lorita.jobs.files import FileStore
from lorita.jobs.options import run_options, usual_rate
from lorita.jobs.process import JobProcess, held, outcome
from lorita.jobs.progress import Progress, final_losses, without_paths
from lorita.jobs.records import (
    CANCELLED,
    FAILED,
    PAUSED,
    QUEUED,
    RESULT_FILE,
    RUNNING,
    SUCCEEDED,
    UNFINISHED,
    VALIDATING,
    Failure,
    Job,
    JobEvent,
)
from lorita.jobs.rules import BadFile, check_file
from lorita.storage.files import write_atomic
from lorita.storage.private import PRIVATE_FOLDER

PACE = 0.2
"""Seconds between two looks at the running job."""
MOST_CRASHES = 3
PATIENCE = 20.0
"""Seconds in which a cancelled job's process may end by itself."""
log = logging.getLogger("lorita.serving")


class Supervisor:
    """The jobs of one data folder. ``work`` has a folder for each, ``runs`` the run folders."""

    def __init__(self, database: Database, files: FileStore, *, work: Path, runs: Path) -> None:
        self._database, self._files = database, files
        self._work, self._runs = work, runs
        self._work.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        self._awake, self._ending = threading.Event(), False
        self._thread = threading.Thread(target=self._loop, name="fine-tuning", daemon=True)
        self._job, self._told_at = "", 0.0
        self._process: JobProcess | None = None
        self._progress: Progress | None = None

    def start(self) -> None:
        """Begin, or go on with what an earlier server left."""
        for job in self._database.jobs():
            if held(self._work / job.id):
                self._follow(job, JobProcess(self._work / job.id))
        self._thread.start()

    def stop(self, *, signalled: bool) -> None:
        """Stop. The running job saves a checkpoint and goes on with the next server.

        ``signalled``: child processes were told already. Told twice, one ends without a checkpoint.
        """
        self._ending = True
        self.wake()
        if self._thread.is_alive():
            self._thread.join()
        if self._process is not None and self._process.alive:
            if not (signalled and self._process.is_child):
                self._process.send(signal.SIGTERM)
            self._process.wait(PATIENCE)

    def wake(self) -> None:
        """Something has changed: look at once."""
        self._awake.set()

    def _loop(self) -> None:
        while not self._ending:
            try:
                self._turn()
            except Exception as error:  # a full disk, perhaps; jobs wait and are tried again
                log.error("fine-tuning: %s", type(error).__name__)
                time.sleep(PACE)
            self._awake.wait(PACE)
            self._awake.clear()

    def _turn(self) -> None:
        for job in self._database.jobs([VALIDATING]):
            self._validate(job)
        if self._process is None:
            self._begin_next()
            return
        alive = self._process.alive  # asked before the files are read, so that nothing is missed
        self._note_progress()
        if alive:
            self._stop_if_unwanted()
            return
        ended, by = outcome(self._process.work), self._process.ended_by()
        self._process = None
        concluded = self._database.job(self._job)
        if concluded is not None:
            self._conclude(concluded, ended, by)

    # Waiting jobs

    def _validate(self, job: Job) -> None:
        """Check the files of a new job by OpenAI's rules."""
        asked = job.request
        try:
            rows = self._checked(asked.training_file, "training_file")
            held_out = 0
            if asked.validation_file is not None:
                held_out = self._checked(asked.validation_file, "validation_file")
        except BadFile as bad:
            self._fail(job, bad.failure)
            return
        validation = None
        if asked.validation_file is not None:
            validation = (self._files.path(asked.validation_file), held_out)
        training = self._files.path(asked.training_file)
        options = run_options(job, self._runs / job.run, training, validation)
        work = self._work / job.id
        work.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        write_atomic(work / work_folder.SETTINGS, json.dumps(options))
        with self._database.change():
            if self._database.move(job.id, [VALIDATING], QUEUED):
                self._database.set_job(job.id, rows=rows)
                self._say(job, "Files validated, moving job to queued state")

    def _checked(self, file: str, param: str) -> int:
        try:
            return check_file(self._files.path(file), param)
        except OSError:
            text = f"The file {file} cannot be read."
            raise BadFile(Failure(f"invalid_{param}", text, param)) from None

    def _begin_next(self) -> None:
        for job in self._database.jobs([RUNNING]):  # an earlier server's
            ended = outcome(self._work / job.id)
            if ended is not None and ended.get("status") != work_folder.STOPPED:
                self._conclude(job, ended, "")
            else:
                self._begin(job)
            return
        for job in self._database.jobs([QUEUED]):
            with self._database.change():
                if not self._database.move(job.id, [QUEUED], RUNNING):
                    continue
                self._say(job, "Fine-tuning job started")
            self._begin(job)
            return

    def _begin(self, job: Job) -> None:
        self._follow(job, JobProcess.start(self._work / job.id))

    def _follow(self, job: Job, process: JobProcess) -> None:
        self._job, self._process, self._told_at = job.id, process, 0.0
        self._progress = Progress(self._runs / job.run, self._work / job.id)

    # The running job

    def _note_progress(self) -> None:
        assert self._progress is not None
        found = list(self._progress.new_events())
        if not found:
            return
        job = self._database.job(self._job)
        if job is None:
            return
        with self._database.change():
            for event in found:
                is_new = self._database.add_event(self._job, event)
                if is_new and job.crashes and (event.mark or "").startswith("checkpoint"):
                    self._database.set_job(self._job, crashes=0)  # it gets on
            if not job.chosen and self._progress.steps is not None:
                rate = usual_rate(job.request)
                chosen = chosen_hyperparameters(self._runs / job.run, rate)
                self._database.set_job(job.id, chosen={**chosen, "steps": self._progress.steps})

    def _stop_if_unwanted(self) -> None:
        assert self._process is not None
        job = self._database.job(self._job)
        if job is not None and job.status not in (PAUSED, CANCELLED):
            return
        now = time.monotonic()
        if not self._told_at:
            self._told_at = now
            self._process.send(signal.SIGTERM)
        elif now - self._told_at > PATIENCE and (job is None or job.status == CANCELLED):
            self._process.send(getattr(signal, "SIGKILL", signal.SIGTERM))

    # The end of a process

    def _conclude(self, job: Job, ended: dict[str, Any] | None, by: str) -> None:
        status = None if ended is None else ended.get("status")
        if status == work_folder.DONE:
            self._succeed(job)
        elif status == work_folder.FAILED:
            assert ended is not None
            self._fail(job, self._failure(job, ended))
        elif status is None and job.status == RUNNING and not self._ending:
            self._crashed(job, by)

    def _succeed(self, job: Job) -> None:
        losses = final_losses(self._runs / job.run)
        with self._database.change():
            if not self._database.move(job.id, UNFINISHED, SUCCEEDED):
                return
            file = self._files.write(losses.csv(), "step_metrics.csv", RESULT_FILE)
            self._database.set_job(
                job.id, finished_at=int(time.time()), trained_tokens=losses.tokens,
                result_file=file.id,
            )  # fmt: skip
            self._say(job, f"New fine-tuned model created: {job.served_as}")
            self._say(job, "The job has successfully completed")

    def _fail(self, job: Job, failure: Failure) -> None:
        with self._database.change():
            if self._database.move(job.id, UNFINISHED, FAILED):
                self._database.set_job(job.id, finished_at=int(time.time()), error=failure)
                self._database.add_event(job.id, JobEvent(failure.message, "error"))

    def _failure(self, job: Job, ended: dict[str, Any]) -> Failure:
        """Why a run failed, in words that hold no path of this machine."""
        kind, said = ended.get("kind"), str(ended.get("message", ""))
        if kind == "bug":
            text = f"This is a bug in lorita ({said}). The server's data folder has its log."
            return Failure("server_error", text)
        if ended.get("hint"):
            said += (
                "\nAdvice for lorita train, whose options the server's --job-settings can hold: "
            )
            said += str(ended["hint"])
        said = without_paths(said, self._runs)
        if kind == "DataError":
            return Failure("invalid_training_file", said, "training_file")
        return Failure("training_failed", said)

    def _crashed(self, job: Job, by: str) -> None:
        """A process that could not say why it ended: perhaps the memory was not enough."""
        crashes = job.crashes + 1
        if crashes > MOST_CRASHES:
            text = f"The training process was ended from outside {crashes} times{by}, at last "
            text += "without having got on. Perhaps the memory is not enough."
            self._fail(job, Failure("training_crashed", text))
            return
        with self._database.change():
            self._database.set_job(job.id, crashes=crashes)
            text = f"The training process was ended from outside{by}; it continues from its last "
            self._database.add_event(job.id, JobEvent(text + "checkpoint", "warn"))

    def _say(self, job: Job, text: str) -> None:
        self._database.add_event(job.id, JobEvent(text))
