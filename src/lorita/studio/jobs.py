"""Trainings as processes of their own: begun, stopped and resumed from the page.

A run is ``lorita train``, as somebody would type it. It belongs to no page and to no server: what
it does is read from its folder, so that every window shows the same, and ending the server does not
end it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lorita.runs.report.training_log import TrainingLog, read_training
from lorita.storage.locks import LOCK_FILE, holder
from lorita.storage.run_folder import RECORD_FILE, list_checkpoints
from lorita.studio.wishes import Wish
from lorita.studio.words import Told
from lorita.studio.workspace import Workspace

Kind = Literal["starting", "running", "measuring", "stopping", "finished", "stopped", "failed"]
RUNNING = ("starting", "running", "measuring", "stopping")
MOST_PRINTED = 2**20
"""Bytes of a command's output that are read, from its end."""


@dataclass(frozen=True)
class State:
    """Where a run is. ``checkpoint`` is the step of its last one; ``message`` why it failed."""

    kind: Kind
    training: TrainingLog
    checkpoint: int | None = None
    message: str = ""

    @property
    def is_running(self) -> bool:
        """Whether a process is at work on it."""
        return self.kind in RUNNING


class Jobs:
    """The trainings of a workspace, of which one runs at a time."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._begun: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping: set[str] = set()
        self._lock = threading.Lock()

    def start(self, wish: Wish) -> str:
        """Begin a run and return its name; ``Told`` if another one is training."""
        folder = Path(str(wish.options["output_dir"]))
        with self._lock:
            self._require_free()
            self.workspace.new_run(folder.name)
            self._begin(folder.name, wish.arguments())
        return folder.name

    def resume(self, name: str) -> None:
        """Continue a run that was stopped; ``Told`` if that is not possible."""
        folder = self.workspace.run(name)
        if (folder / RECORD_FILE).is_file():
            raise Told("already_finished", name=name)
        with self._lock:
            self._require_free()
            if not list_checkpoints(folder):
                raise Told("nothing_to_resume", name=name)
            self._begin(name, resume_arguments(folder))

    def stop(self, name: str) -> None:
        """Ask a run to save a checkpoint and end; ``Told`` if it is not running."""
        if sys.platform == "win32":
            raise Told("not_this_system")
        process = self._begun.get(name)
        pid = process.pid if process is not None and process.poll() is None else None
        if pid is None:
            pid = holder(self.workspace.run(name) / LOCK_FILE)
        if not pid:
            raise Told("not_running", name=name)
        if name not in self._stopping:  # a second signal would end it without a checkpoint
            self._stopping.add(name)
            os.kill(pid, signal.SIGINT)

    def running(self) -> str | None:
        """The name of the run that is training now, also one begun elsewhere in this folder."""
        for name, process in self._begun.items():
            if process.poll() is None:
                return name
        return self.workspace.training()

    def names(self) -> list[str]:
        """All runs, the newest first, with one that is only just beginning."""
        found = self.workspace.runs()
        new = [name for name in self._begun if name not in found]
        return [*reversed(new), *found]

    def state(self, name: str) -> State:
        """Where a run is, from its folder and its process; ``Told`` if there is no such run."""
        if name not in self.names():
            raise Told("no_such_run")
        folder = self.workspace.folder / name
        training = read_training(folder)
        saved = list_checkpoints(folder)
        last = int(saved[-1].name.partition("-")[2]) if saved else None
        process = self._begun.get(name)
        alive = process is not None and process.poll() is None
        if alive or holder(folder / LOCK_FILE) is not None:
            return State(self._phase(name, training), training, last)
        self._stopping.discard(name)
        if (folder / RECORD_FILE).is_file():
            return State("finished", training, last)
        message = "" if self._was_stopped(name) else printed_error(self.workspace.output(name))
        return State("failed" if message else "stopped", training, last, message)

    def _phase(self, name: str, training: TrainingLog) -> Kind:
        if name in self._stopping:
            return "stopping"
        if training.ended:
            return "measuring"
        return "running" if training.steps else "starting"

    def _was_stopped(self, name: str) -> bool:
        process = self._begun.get(name)
        return process is not None and process.returncode in (130, -signal.SIGINT)

    def _require_free(self) -> None:
        other = self.running()
        if other is not None:
            raise Told("already_training", name=other)

    def _begin(self, name: str, arguments: list[str]) -> None:
        self._stopping.discard(name)
        output = self.workspace.output(name)
        self.workspace.make(output.parent)
        self._begun[name] = launch(arguments, output)


def resume_arguments(folder: Path) -> list[str]:
    """The arguments that continue the run in a folder."""
    return ["train", str(folder), "--resume"]


def launch(arguments: list[str], output: Path) -> subprocess.Popen[bytes]:
    """Run a command of lorita in a process of its own, its output in a file.

    It is in a session of its own: Ctrl-C in the server's terminal does not reach it.
    """
    environment = {**os.environ, "PYTHONUTF8": "1", "NO_COLOR": "1", "COLUMNS": "200"}
    output.unlink(missing_ok=True)  # an earlier one, or a link that leads elsewhere
    with output.open("xb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "lorita", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def printed_error(output: Path) -> str:
    """The message with which a command ended; empty if it did not end with one."""
    _, found, message = f"\n{printed(output)}".rpartition("\nError:")
    return message.strip() if found else ""


def printed(output: Path) -> str:
    """What a command has printed so far, or its last ``MOST_PRINTED`` bytes."""
    try:
        with output.open("rb") as file:
            file.seek(max(0, output.stat().st_size - MOST_PRINTED))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
