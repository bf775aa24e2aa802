"""Standard output and error that do not fail: what nobody can read does not stop the work.

A reader that goes away (``| head``), a full disk and a closed descriptor all end in silence, not in
an exception between training and its record. Characters that the encoding lacks, and bytes of file
names that are not UTF-8, are shown as escapes. Commands whose whole result is what they print stop
early where nobody reads on. ``exit_code`` says how the command ended.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from lorita.cli.say import tell

MAKE_FILES = frozenset({"train", "sweep", "demo", "merge", "export", "push"})
"""Commands whose result is a file, a folder or an upload. What they print is a report on it."""


class Unread(BrokenPipeError):
    """Nobody can read what the command prints, and it has no other result."""


class Guarded(io.RawIOBase):
    """A raw stream whose first failed write turns it into one that goes nowhere.

    ``failed`` is that error. With ``stops``, it also raises ``Unread``, once.
    """

    def __init__(self, raw: io.RawIOBase, *, stops: bool) -> None:
        self.raw, self.stops = raw, stops
        self.failed: OSError | None = None

    def write(self, data: object) -> int:
        """Write, waiting as long as the reader of a non-blocking pipe is busy."""
        try:
            while (written := self.raw.write(data)) is None:  # type: ignore[arg-type]
                select.select([], [self.raw], [])
            return written
        except OSError as error:
            self._fail(error)
            return len(data)  # type: ignore[arg-type]

    def _fail(self, error: OSError) -> None:
        self.failed = error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.raw.fileno())  # other libraries write to the descriptor itself
        os.close(nowhere)
        if self.stops:
            raise Unread(error.errno, error.strerror)

    def writable(self) -> bool:
        """Always true: it takes what it is given, and may drop it."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self.raw.fileno()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.raw.isatty()


@contextmanager
def guarded_streams(command: str) -> Iterator[Guarded | None]:
    """Guard ``sys.stdout`` and ``sys.stderr`` while the block runs; yields standard output's guard.

    None if somebody else has replaced ``sys.stdout``.
    """
    _open_closed()
    before = sys.stdout, sys.stderr
    out = _guarded(sys.stdout, stops=command not in MAKE_FILES)
    err = _guarded(sys.stderr, stops=False)
    sys.stdout, sys.stderr = out or sys.stdout, err or sys.stderr
    guard = _guard_of(out)
    try:
        yield guard
    finally:
        if guard is not None:
            guard.stops = False
        for stream in (out, err):
            if stream is not None:
                stream.flush()
                stream.detach()  # or it would close the descriptor
        sys.stdout, sys.stderr = before


def exit_code(code: int, command: str, guard: Guarded | None) -> int:
    """The exit code of a command that ended with ``code``, and a line if its output is lost.

    That a reader wanted no more is no failure, and a finished run is finished.
    """
    error = guard.failed if guard is not None else None
    if error is None or error.errno == errno.EPIPE:
        return code
    text = f"standard output: cannot be written ({error.strerror or error})"
    if command in MAKE_FILES:
        tell(f"Warning: {text}; only the report was lost")
        return code
    tell(f"Error: {text}")
    return code or 1


def _open_closed() -> None:
    """Open what is closed (``>&-``): the next file opened would get its number, and all prints."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _guarded(stream: TextIO, *, stops: bool) -> io.TextIOWrapper | None:
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # with python -u there is no buffer between
    if not isinstance(raw, io.RawIOBase):
        return None
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(Guarded(raw, stops=stops)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.isatty() or stops is False,
    )


def _guard_of(stream: io.TextIOWrapper | None) -> Guarded | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, Guarded) else None
