"""What this user has allowed before: hashes in a private file, so that nobody is asked twice.

The file is ``lorita/confirmed`` in the user's state folder (``XDG_STATE_HOME``, by default
``~/.local/state``), readable and writable by its owner alone. A line is the SHA-256 of everything
that an answer depended on: kind of wish, place, and content. So a folder that comes from elsewhere
cannot bring its own permission, and what has changed since is asked again. A file that others could
have written is not believed; one that cannot be written only means being asked again.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from lorita.storage.private import PRIVATE_FILE, is_own_folder, make_private, open_own

LARGEST = 2**20
"""Bytes of the file, some 16,000 answers; a larger one is not read and begins anew."""


def mark(*parts: str) -> str:
    """One line of the file: a hash of everything that an answer depends on."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode("utf-8", "surrogateescape")
        digest.update(f"{len(content)}:".encode() + content)
    return digest.hexdigest()


def is_confirmed(line: str) -> bool:
    """Whether this user has allowed what ``mark`` made ``line`` from."""
    return line in _lines()


def confirm(*lines: str) -> None:
    """Remember what this user has allowed, where the file can be written."""
    with suppress(OSError, RuntimeError):
        known = _lines()
        new = [line for line in lines if line not in known]
        if new:
            _append(new, anew=not known)


def _place() -> Path:
    """The file; ``RuntimeError`` for a user without a home folder."""
    given = Path(os.environ.get("XDG_STATE_HOME") or "")
    # The XDG specification says that relative paths are to be ignored.
    state = given if given.is_absolute() else Path.home() / ".local" / "state"
    return state / "lorita" / "confirmed"


def _lines() -> set[str]:
    try:
        path = _place()
        if not is_own_folder(path.parent):
            return set()
        with open_own(path) as file:
            content = file.read(LARGEST + 1)
    except (OSError, RuntimeError):
        return set()
    # Everything before the last line break: a killed process may have left part of a line.
    whole, _, _ = content.rpartition(b"\n")
    return set(whole.decode("ascii", "replace").split("\n")) if len(content) <= LARGEST else set()


def _append(lines: list[str], *, anew: bool) -> None:
    path = _place()
    make_private(path.parent)
    if anew:  # missing, or not to be believed
        path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(path, flags, PRIVATE_FILE)
    try:
        # A line break first, which ends a line that was cut.
        os.write(handle, "".join(f"\n{line}\n" for line in lines).encode("ascii"))
        os.fsync(handle)
    finally:
        os.close(handle)
