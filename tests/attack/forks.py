"""Commands in processes of their own, forked from one that has imported everything.

Importing takes seconds, a tiny job a fraction of one: forking makes hundreds of attacks affordable.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import lorita.cli

KILLED = -signal.SIGKILL


class Forks:
    """Starts commands of lorita; what they print is appended to ``log``."""

    def __init__(self, work: Path) -> None:
        self.log = work / "log.txt"
        self._modules = work / "modules.txt"

    def start(self, words: Sequence[str | Path]) -> int:
        """Start a command and return its process id."""
        ready, tell = os.pipe()
        pid = os.fork()
        os.close(tell if pid else ready)
        if pid:
            os.read(ready, 1)
            os.close(ready)
            return pid
        code = 70
        try:
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.write(tell, b".")
            os.close(tell)
            code = _exit_code([str(word) for word in words])
            with self._modules.open("a") as modules:
                modules.write("\n".join([*sys.modules, ""]))
        finally:
            os._exit(code)

    def finish(self, words: Sequence[str | Path]) -> float:
        """Run a command that must end well; returns its seconds."""
        began = time.perf_counter()
        code = wait(self.start(words))
        if code:
            tail = self.log.read_text(errors="replace")[-3000:]
            sys.exit(f"lorita {' '.join(map(str, words))} ended with {code}:\n{tail}")
        return time.perf_counter() - began

    def import_all(self) -> None:
        """Import what the commands so far imported, so that no later fork has to."""
        for name in dict.fromkeys(self._modules.read_text().split()):
            try:
                importlib.import_module(name)
            except Exception:  # some modules are made by their parents
                continue


def _exit_code(words: list[str]) -> int:
    try:
        lorita.cli.main(words)
    except SystemExit as done:
        code = done.code
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    return code if isinstance(code, int) else int(code is not None)


def wait(pid: int) -> int:
    """The exit code of a process, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def end_after(pid: int, seconds: float, sign: int) -> int:
    """Send a signal after some seconds, unless the process ends before; its exit code.

    A signal never comes before the first lines of ``main``: before them it is Python's.
    """
    until = time.perf_counter() + max(seconds, 0.01)
    while time.perf_counter() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    os.kill(pid, sign)
    return wait(pid)
