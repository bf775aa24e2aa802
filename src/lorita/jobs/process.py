"""The process of a job as the server sees it: started, found again, told to stop, ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import lorita
from lorita.errors import OutputError
from lorita.jobs.work_folder import LOCK, OUTCOME
from lorita.storage.locks import require_free
from lorita.storage.private import PRIVATE_FILE

KEY_VARIABLE = "LORITA_API_KEY"
_LOG = "process.log"


class JobProcess:
    """The process of one job, whose folder is ``work``: a child, or one an earlier server left."""

    def __init__(self, work: Path, child: subprocess.Popen[bytes] | None = None) -> None:
        self.work, self._child = work, child

    @classmethod
    def start(cls, work: Path) -> JobProcess:
        """A new process, which outlives the server if that is killed."""
        (work / OUTCOME).unlink(missing_ok=True)
        environment = {k: v for k, v in os.environ.items() if k != KEY_VARIABLE}
        package = str(Path(lorita.__file__).parent.parent)
        paths = [package, *filter(None, [environment.get("PYTHONPATH")])]
        environment |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUTF8": "1"}
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
        log = os.open(work / _LOG, flags, PRIVATE_FILE)
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", "lorita.jobs.worker", str(work)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(log)
        return cls(work, child)

    @property
    def alive(self) -> bool:
        """Whether the process is at work."""
        if self._child is not None and self._child.poll() is None:
            return True
        return held(self.work)

    @property
    def is_child(self) -> bool:
        """Whether this server has started the process, not an earlier one."""
        return self._child is not None

    def ended_by(self) -> str:
        """What ended a child, for a message."""
        code = self._child.returncode if self._child is not None else None
        return f" (signal {-code})" if code is not None and code < 0 else ""

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process if it is there."""
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(number)
        elif held(self.work) and (owner := _owner(self.work)) is not None:
            with suppress(OSError):
                os.kill(owner, number)

    def wait(self, seconds: float) -> None:
        """Wait for a child to end, but not longer than this."""
        if self._child is not None:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(seconds)


def held(work: Path) -> bool:
    """Whether a process has the job of this folder."""
    try:
        require_free(work / LOCK, work, advice="")
    except OutputError:
        return True
    return False


def outcome(work: Path) -> dict[str, Any] | None:
    """How the job's last process ended; None if it could not say."""
    try:
        found = json.loads((work / OUTCOME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _owner(work: Path) -> int | None:
    """The process that holds the lock."""
    try:
        pid = json.loads((work / LOCK).read_text(encoding="utf-8"))["pid"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid if isinstance(pid, int) and pid > 1 else None
