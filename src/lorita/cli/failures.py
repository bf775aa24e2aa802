"""What the command line says about an exception that nobody raised on purpose.

``unexpected`` turns it into a message for people; the traceback goes into a private file. It is not
for errors that have a message of their own (``lorita.errors``).
"""

from __future__ import annotations

import errno
import os
import platform
import shlex
import sys
import tempfile
import traceback
from collections.abc import Sequence

from lorita.system.memory import is_out_of_memory

_SYSTEM = (
    "EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EIO", "ELOOP", "ENAMETOOLONG", "EMFILE",
    "ENFILE", "ETXTBSY", "ESTALE",
)  # fmt: skip
"""Errors of the system that say themselves what is wrong with a file, whoever opened it."""


def unexpected(error: BaseException, arguments: Sequence[str]) -> str:
    """The message for an unexpected ``error`` of the command line ``arguments``.

    With Python's development mode (``python -X dev`` or ``PYTHONDEVMODE=1``), the error is raised
    again, for developers who want the traceback at once.
    """
    if sys.flags.dev_mode:
        raise error
    if is_out_of_memory(error):
        return (
            f"the memory was not enough ({_first_line(error)})\n"
            "Close other programs, or use a smaller model, shorter rows (--max-length) or a "
            "smaller --per-device-train-batch-size."
        )
    if isinstance(error, OSError) and error.filename is not None and _is_of_the_system(error):
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    what = f"{type(error).__name__}: {_first_line(error)}"
    if isinstance(error, RecursionError):
        what = f"something is nested too deeply ({what})"
    place = _written(error, arguments)
    trace = f"the file {place}" if place else "the traceback above"
    return (
        f"this is a bug in lorita: {what}\n"
        f"Please report it with {trace}; it holds the command, the versions and the traceback."
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    line = lines[0].strip() if lines else ""
    return line if len(line) <= 200 else line[:199] + "…"


def _is_of_the_system(error: OSError) -> bool:
    return error.errno in {getattr(errno, name, None) for name in _SYSTEM}


def _written(error: BaseException, arguments: Sequence[str]) -> str | None:
    """The new file that holds the traceback; None if it went to stderr instead."""
    text = (
        f"lorita {_version()}, Python {platform.python_version()}, {platform.platform()}\n"
        f"Command: {shlex.join(['lorita', *arguments])}\n\n"
        + "".join(traceback.format_exception(type(error), error, error.__traceback__))
    ).encode("utf-8", "backslashreplace")
    try:
        # A new file that only this user can read: arguments and messages may hold the user's data.
        handle, place = tempfile.mkstemp(prefix="lorita-bug-", suffix=".txt")
        with os.fdopen(handle, "wb") as file:
            file.write(text)
    except OSError:
        sys.stderr.write(text.decode("utf-8"))
        return None
    return place


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    names = ("lorita", "torch", "transformers", "peft", "datasets", "safetensors")
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}" if name != "lorita" else version(name))
        except PackageNotFoundError:
            found.append(f"{name} ?")
    return ", ".join(found)
