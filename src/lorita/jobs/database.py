"""The embedded SQLite database of files, jobs and events.

Every change is one transaction that is on the disk when the call returns, so that a killed server
loses nothing. All threads of the server share one connection.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lorita.errors import OutputError
from lorita.jobs.records import Failure, Job, JobEvent, Request, StoredFile, new_id

FORMAT = 1
_TABLES = """
CREATE TABLE files (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL, filename TEXT NOT NULL, purpose TEXT NOT NULL
);
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, created_at INTEGER NOT NULL,
    status TEXT NOT NULL, place INTEGER NOT NULL, request TEXT NOT NULL, run TEXT NOT NULL,
    served_as TEXT NOT NULL, rows INTEGER, chosen TEXT NOT NULL DEFAULT '{}', error TEXT,
    finished_at INTEGER, trained_tokens INTEGER, result_file TEXT,
    crashes INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, job TEXT NOT NULL,
    created_at INTEGER NOT NULL, level TEXT NOT NULL, message TEXT NOT NULL, kind TEXT NOT NULL,
    data TEXT, mark TEXT, UNIQUE (job, mark)
);
"""
_JOB = (
    "id, created_at, status, request, run, served_as, rows, chosen, error, finished_at, "
    "trained_tokens, result_file, crashes, place"
)
_EVENT = "message, level, kind, data, mark, id, created_at"


class Database:
    """The tables of one data folder; ``OutputError`` if the file cannot be read."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            written = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            if written == 0:
                self._db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {FORMAT}; COMMIT;")
            if written <= FORMAT:
                self.jobs(), self.files()
        except (sqlite3.Error, ValueError, TypeError, KeyError) as error:
            raise OutputError(
                f"{path}: the database of files and jobs cannot be read ({error})",
                hint="Move it elsewhere, and a new one is made; or serve without: --no-jobs.",
            ) from None
        if written > FORMAT:
            raise OutputError(f"{path}: written by a newer lorita (format {written})")

    def close(self) -> None:
        """Close the file; nothing can be asked any more."""
        with self._lock:
            self._db.close()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Several changes that are made all or not at all."""
        with self._lock:
            if self._db.in_transaction:  # within another change
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def _do(self, sql: str, values: Sequence[Any]) -> int:
        with self._lock:
            return self._db.execute(sql, values).rowcount

    # Files

    def add_file(self, file: StoredFile) -> None:
        """Note a file whose content is on the disk."""
        values = (file.id, file.bytes, file.created_at, file.filename, file.purpose)
        self._do(
            "INSERT INTO files (id, bytes, created_at, filename, purpose) VALUES (?, ?, ?, ?, ?)",
            values,
        )

    def remove_file(self, file: str) -> bool:
        """Forget a file; whether there was one."""
        return self._do("DELETE FROM files WHERE id = ?", (file,)) > 0

    def file(self, file: str) -> StoredFile | None:
        """The file of this id."""
        sql = "SELECT id, bytes, created_at, filename, purpose FROM files WHERE id = ?"
        found = self._rows(sql, (file,))
        return StoredFile(*found[0]) if found else None

    def files(self) -> list[StoredFile]:
        """All files, the oldest first."""
        sql = "SELECT id, bytes, created_at, filename, purpose FROM files ORDER BY number"
        return [StoredFile(*row) for row in self._rows(sql)]

    # Jobs

    def add_job(self, job: Job) -> None:
        """A new job, at the end of the queue."""
        self._do(
            "INSERT INTO jobs (id, created_at, status, place, request, run, served_as) VALUES "
            "(?, ?, ?, (SELECT coalesce(max(place), 0) + 1 FROM jobs), ?, ?, ?)",
            (job.id, job.created_at, job.status, json.dumps(asdict(job.request)), job.run,
             job.served_as),
        )  # fmt: skip

    def job(self, job: str) -> Job | None:
        """The job of this id."""
        found = self._rows(f"SELECT {_JOB} FROM jobs WHERE id = ?", (job,))
        return _job(found[0]) if found else None

    def jobs(self, statuses: Iterable[str] | None = None) -> list[Job]:
        """All jobs, or those in one of these states; the first of the queue first."""
        wanted = None if statuses is None else set(statuses)
        found = map(_job, self._rows(f"SELECT {_JOB} FROM jobs ORDER BY place"))
        return [job for job in found if wanted is None or job.status in wanted]

    def move(self, job: str, before: Iterable[str], after: str) -> bool:
        """Change a job's state if it is one of ``before``; whether it was."""
        allowed = list(before)
        marks = ", ".join("?" * len(allowed))
        sql = f"UPDATE jobs SET status = ? WHERE id = ? AND status IN ({marks})"
        return self._do(sql, (after, job, *allowed)) > 0

    def set_job(self, job: str, **values: Any) -> None:
        """Change what is known of a job, by the names of ``Job``'s fields."""
        for name, value in values.items():
            stored: Any = value
            if isinstance(value, Failure):
                stored = json.dumps(value.as_dict())
            elif isinstance(value, dict):
                stored = json.dumps(value)
            assert name in _JOB.split(", ")
            self._do(f"UPDATE jobs SET {name} = ? WHERE id = ?", (stored, job))

    # Events

    def add_event(self, job: str, event: JobEvent) -> bool:
        """Note an event, unless the job has one of this mark already; whether it is new."""
        data = None if event.data is None else json.dumps(event.data)
        added = self._do(
            "INSERT OR IGNORE INTO events (id, job, created_at, level, message, kind, data, mark) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (new_id("ftevent-"), job, int(time.time()), event.level, event.message, event.kind,
             data, event.mark),
        )  # fmt: skip
        return added > 0

    def events(self, job: str, after: str | None, limit: int) -> list[JobEvent] | None:
        """Events of a job, the newest first, from the one that follows ``after`` on.

        None if the job has no event of the id ``after``.
        """
        bound = 2**62
        if after is not None:
            place = self._rows("SELECT number FROM events WHERE job = ? AND id = ?", (job, after))
            if not place:
                return None
            bound = place[0][0]
        sql = (
            f"SELECT {_EVENT} FROM events WHERE job = ? AND number < ? ORDER BY number DESC LIMIT ?"
        )
        return [
            JobEvent(message, level, kind, None if data is None else json.loads(data), *rest)
            for message, level, kind, data, *rest in self._rows(sql, (job, bound, limit))
        ]


def _job(row: Sequence[Any]) -> Job:
    id_, created, status, request, run, served_as, rows, chosen, error, *rest = row
    failure = None if error is None else Failure(**json.loads(error))
    asked = Request(**json.loads(request))
    return Job(
        id_, created, status, asked, run, served_as, rows, json.loads(chosen), failure, *rest
    )
