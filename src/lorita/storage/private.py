"""Folders and files that only this user can have written, so that what they say can be believed.

A folder that others can write is a place where they can leave something: another user's file, a
link that leads elsewhere. What is not this user's own is never read, followed or changed. Windows
has neither such owners nor such modes; its user folders are private by themselves.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class NotPrivate(OSError):
    """A file or folder that somebody else owns or can write, or a link in its place."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(errno.EPERM, what, str(path))


def _has_owners() -> bool:
    return hasattr(os, "getuid")


def why_not_own(status: os.stat_result) -> str | None:
    """Why a file or folder of this status is not believed; None if only this user can write it."""
    if stat.S_ISLNK(status.st_mode):
        return "it is a link"
    if not _has_owners():
        return None
    if status.st_uid != os.getuid():
        return "it belongs to another user"
    return "others can write to it" if status.st_mode & _OTHERS_WRITE else None


def make_private(folder: Path) -> Path:
    """Create ``folder`` for this user alone (0700), or take those rights from others.

    Folders above it are created as usual. Raises ``NotPrivate`` if it is a link, a file, or another
    user's; ``OSError`` if it cannot be created.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=PRIVATE_FOLDER)
    except FileExistsError:
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode):
            link = stat.S_ISLNK(status.st_mode)
            raise NotPrivate(folder, "it is a link" if link else "it is not a folder") from None
        if _has_owners() and status.st_uid != os.getuid():
            raise NotPrivate(folder, "it belongs to another user") from None
        if _has_owners() and stat.S_IMODE(status.st_mode) & 0o077:
            folder.chmod(PRIVATE_FOLDER)
    return folder


def private_folder(parent: Path, name: str = "lorita") -> Path:
    """A private folder called ``name`` in ``parent``, where several users may have theirs.

    Where that is another user's, or a link, this user gets one of an own name. ``OSError`` if
    neither can be used.
    """
    try:
        return make_private(parent / name)
    except NotPrivate:
        if not _has_owners():
            raise
        return make_private(parent / f"{name}-{os.getuid()}")


def existing_folder(parent: Path, name: str = "lorita") -> Path:
    """Where ``private_folder`` would put this user's folder; nothing is made."""
    folder = parent / name
    if _has_owners() and folder.is_symlink():
        return parent / f"{name}-{os.getuid()}"
    with suppress(OSError):
        if _has_owners() and folder.lstat().st_uid != os.getuid():
            return parent / f"{name}-{os.getuid()}"
    return folder


def open_own(path: Path) -> BinaryIO:
    """Open a regular file to read it; ``NotPrivate`` unless only this user can have written it.

    The opened file itself is looked at, not its name, which could lead elsewhere a moment later.
    """
    follow = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | follow)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise NotPrivate(path, "it is a link") from None
        raise
    status = os.fstat(handle)
    why = "it is not a file" if not stat.S_ISREG(status.st_mode) else why_not_own(status)
    if why is not None:
        os.close(handle)
        raise NotPrivate(path, why)
    return os.fdopen(handle, "rb")


def private_file(path: Path) -> BinaryIO:
    """A new file that only this user can read, opened to write it; ``OSError`` if one is there."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, PRIVATE_FILE), "wb")


def is_own_folder(path: Path) -> bool:
    """Whether ``path`` is a folder, no link, that only this user can have filled."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and why_not_own(status) is None
