"""Run a command in a terminal of a given size, and see what a person would see on it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyte

from tests.command import environment
from tests.forks import own_terminal, start

LINES = 200
"""Higher than what any command prints, so that nothing is scrolled away."""


@dataclass
class Look:
    """A terminal on which a command ran: its last screen, and each different one before it."""

    code: int
    screen: str
    frames: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The lines of the last screen."""
        return self.screen.splitlines()

    def text(self) -> str:
        """The last screen as running text: line breaks are spaces."""
        return " ".join(self.screen.split())


When = tuple[str, bytes]
"""What to wait for on the screen, and what is typed then (``b"\\x03"`` is Ctrl-C)."""


def look(
    *arguments: object, columns: int = 80, typed: tuple[When, ...] = (), seconds: float = 240,
    cwd: Path | None = None, **extra: str,
) -> Look:  # fmt: skip
    """Run ``lorita`` with the arguments in a terminal that is ``columns`` wide."""
    words = ["-m", "lorita", *arguments]
    return _look(partial(start, words, terminal=True), columns, typed, seconds, cwd, extra)


def look_at(
    command: list[str], *, columns: int = 80, typed: tuple[When, ...] = (), seconds: float = 240,
    cwd: Path | None = None, **extra: str,
) -> Look:  # fmt: skip
    """As ``look``, for any program."""
    begin = partial(subprocess.Popen, command, preexec_fn=own_terminal)  # so that Ctrl-C reaches it
    return _look(begin, columns, typed, seconds, cwd, extra)


def _look(
    begin: Callable[..., subprocess.Popen[bytes]], columns: int, typed: tuple[When, ...],
    seconds: float, cwd: Path | None, extra: dict[str, str],
) -> Look:  # fmt: skip
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
    known = environment(**{"TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **extra})
    known = {name: value for name, value in known.items() if name != "COLUMNS"}

    process = begin(stdin=its, stdout=its, stderr=its, env=known, cwd=cwd)
    os.close(its)
    try:
        return _watched(process, ours, columns, list(typed), seconds)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        os.close(ours)


def _watched(
    process: subprocess.Popen[bytes], ours: int, columns: int, typed: list[When], seconds: float
) -> Look:
    screen = pyte.Screen(columns, LINES)
    stream = pyte.ByteStream(screen)
    frames: list[str] = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if not select.select([ours], [], [], 0.5)[0]:
            continue
        try:
            said = os.read(ours, 2**16)
        except OSError:  # on Linux, the end
            break
        if not said:
            break
        stream.feed(said)
        shown = _shown(screen)
        if not frames or frames[-1] != shown:
            frames.append(shown)
        if typed and typed[0][0] in " ".join(shown.split()):
            os.write(ours, typed.pop(0)[1])
    try:
        code = process.wait(10)
    except subprocess.TimeoutExpired:
        code = -1
    return Look(code, _shown(screen), frames)


def _shown(screen: pyte.Screen) -> str:
    return "\n".join(line.rstrip() for line in screen.display).rstrip()
