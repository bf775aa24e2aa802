"""Ctrl-C, SIGTERM and SIGHUP from the first instant of a command to its last.

A signal is raised as an exception wherever the command is, so that files that are half written are
removed on the way out; the training loop asks for a checkpoint first (``training/stop_request``).
A second signal ends the process at once.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

STOPPED = 130
"""The exit code of a command that was stopped."""
LOST = 5.0
"""Seconds after Ctrl-C in which an error is taken for what became of it."""
PATIENCE = 5.0
"""Seconds after which a signal is raised again: some libraries swallow exceptions."""
DOUBLE = 0.5
"""Signals within so many seconds are one wish: launchers and terminals both pass them on."""


class Terminated(BaseException):
    """The process was asked to end (SIGTERM, SIGHUP).

    Not a ``KeyboardInterrupt``, which may be meant for a single answer of a chat.
    """


class _Asked:
    """When the process was asked to end (``time.monotonic``); None: it was not.

    ``interrupted`` is the last Ctrl-C, after which a command may go on (a chat).
    """

    at: float | None = None
    interrupted: float | None = None


def stop_signals() -> list[signal.Signals]:
    """The signals that stop a command; those that whoever started it ignores (nohup) are not."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    found = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [s for s in found if s == signal.SIGINT or signal.getsignal(s) is not signal.SIG_IGN]


def watch_signals() -> None:
    """Turn the signals into exceptions, from now on. For the main thread of a command."""
    for number in stop_signals():
        if number != signal.SIGINT:
            signal.signal(number, _terminate)
        elif signal.getsignal(number) is signal.default_int_handler:
            signal.signal(number, _interrupt)
    sys.unraisablehook = _raise_again_if_swallowed
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_as_usual)


def leave(code: int) -> None:
    """End the process with ``code``; no signal changes that any more.

    A command that was stopped does not wait for threads of its libraries.
    """
    for number in stop_signals():
        signal.signal(number, lambda *_: os._exit(code))
    atexit.register(_ignore_signals)  # the interpreter would give these up before its end
    if code != STOPPED:
        sys.exit(code)
    _end_children()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def caused_by_signal(error: BaseException) -> bool:
    """Whether an error is what a library made of the exception that a signal raised.

    So is lorita's own message that the user's input is wrong, where it was made from such an error;
    one about a file, such as a full disk, is not.
    """
    from lorita.errors import LoritaError

    cause = error.__cause__ or error.__context__
    if isinstance(error, LoritaError) and (
        error.exit_code != 2 or cause is None or isinstance(cause, OSError)
    ):
        return False
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        if isinstance(link, (KeyboardInterrupt, Terminated)):
            return True
        seen.append(link)
        link = link.__cause__ or link.__context__
    # A library in C may lose the exception and raise one of its own.
    last = _Asked.interrupted
    return _Asked.at is not None or (last is not None and time.monotonic() - last < LOST)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _Asked.interrupted = time.monotonic()
    _end_children()
    raise KeyboardInterrupt


def _terminate(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if _Asked.at is not None and now - _Asked.at > DOUBLE:
        os.write(2, b"Interrupted again: ended at once\n")
        os._exit(STOPPED)
    if _Asked.at is None:
        _Asked.at = now
        _end_children()
        _again_in(PATIENCE)
        raise Terminated


def _again_in(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, _again)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _again(number: int, frame: FrameType | None) -> None:
    _again_in(PATIENCE)
    raise Terminated


def _raise_again_if_swallowed(unraisable: Any) -> None:
    """Exceptions in finalisers and callbacks are printed and forgotten: not those of a signal."""
    if issubclass(unraisable.exc_type, (KeyboardInterrupt, Terminated)):
        _again_in(0.05)
    elif _Asked.at is None:
        sys.__unraisablehook__(unraisable)


def _ignore_signals() -> None:
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)


def _as_usual() -> None:
    """Children that are forked end by a signal as any other process."""
    for number in stop_signals():
        if signal.getsignal(number) in (_interrupt, _terminate):
            signal.signal(number, signal.SIG_DFL)


def _end_children() -> None:
    """End what this process has started, compilers with their own children included."""
    for pid in list(_descendants(os.getpid())):  # before the first one ends
        with suppress(OSError):
            os.kill(pid, signal.SIGTERM)


def _descendants(pid: int) -> Iterator[int]:
    """Children and their children, as far as the system tells (Linux)."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                yield child
                yield from _descendants(child)
