"""``lorita serve`` in a process that a test can kill, its job, and an upload that never ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import openai

from lorita.jobs.desk import Desk
from lorita.jobs.records import Request
from lorita.jobs.work_folder import DATA_FOLDER, LOCK
from tests.command import environment, write
from tests.serving.jobs import EPOCHS, QUICK

HALF = (
    b'--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + b"half " * 1000
)


def open_desk(runs: Path, base: str, **how: bool) -> Desk:
    """The desk of a folder; the base and no proof."""
    return Desk(runs, {"model": base, "dtype": "float32", **QUICK}, ["base"], **how)


def request(file: str) -> Request:
    """What all jobs of these tests are asked to do."""
    return Request("base", file, n_epochs=EPOCHS, batch_size=4)


@dataclass
class Killable:
    """A server for a folder of runs, with jobs that need no proof."""

    process: subprocess.Popen[str]
    runs: Path
    url: str

    @classmethod
    def start(cls, base: str, runs: Path) -> Killable:
        """The command as it is typed, on a free port; returns when it answers."""
        settings = write(runs.parent / "jobs.yaml", json.dumps(QUICK))
        process = subprocess.Popen(
            [sys.executable, "-m", "lorita", "serve", base, "--watch", runs, "--port", "0",
             "--dtype", "float32", "--job-settings", settings],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(),
        )  # fmt: skip
        assert process.stdout is not None
        said = process.stdout.readline()
        process.stdout.close()
        found = re.search(r"http://\S+/v1", said)
        assert found, said
        return cls(process, runs, found[0])

    @property
    def files(self) -> Path:
        """Where uploads lie."""
        return self.runs / DATA_FOLDER / "files"

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key="none", max_retries=0, timeout=120)

    def half_an_upload(self) -> socket.socket:
        """A client that has sent the beginning of a file, and sends no more."""
        at = urlsplit(self.url)
        connection = socket.create_connection((at.hostname, at.port))
        connection.sendall(
            b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n"
            b"Content-Type: multipart/form-data; boundary=B\r\n\r\n" + HALF
        )
        return connection

    def kill(self, job: str | None = None) -> None:
        """End the server at once, and the process of a job if it is at work."""
        self.process.kill()
        if job is not None:
            with suppress(OSError, ValueError):
                kill(trainer(self.runs, job))
        self.process.wait()


def trainer(runs: Path, job: str) -> int:
    """The process of a job."""
    lock = runs / DATA_FOLDER / "work" / job / LOCK
    return int(json.loads(lock.read_text(encoding="utf-8"))["pid"])


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
