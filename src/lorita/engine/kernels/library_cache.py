"""The user's own cache of compiled libraries: who may have written there, and unfinished builds.

What it holds is code, so it is believed only where nobody else can have written: folder and files
belong to this user (files may also be root's), others cannot write to them, and none of them is a
link. (The engine imports nothing of lorita but the errors, so ``storage`` has its own rules.)
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":  # where the kernels are not compiled
    import fcntl

PART = "lorita-kernels-"
"""How the names of folders begin in which a build is going on."""

MOST_LIBRARIES = 40
"""Some hundred kilobytes each; machines that share a home have different ones."""


def cache_folder() -> Path:
    """``lorita`` in ``XDG_CACHE_HOME``, or in ``~/.cache`` if that is not an absolute path."""
    given = Path(os.environ.get("XDG_CACHE_HOME") or "")
    return (given if given.is_absolute() else Path.home() / ".cache") / "lorita"


def private_cache() -> Path:
    """The cache folder, readable by this user alone; ``OSError`` if it is not this user's own."""
    folder = cache_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise OSError(0, "it is a link or a file", str(folder))
    if status.st_uid != os.getuid():
        raise OSError(0, "it belongs to another user", str(folder))
    if stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(0o700)
    return folder


def remove_old(folder: Path) -> None:
    """Delete all but the newest libraries, with their hashes."""
    libraries = [path for path in folder.glob("*-*.so") if not path.is_symlink()]
    with suppress(OSError):
        libraries.sort(key=lambda path: path.lstat().st_mtime, reverse=True)
        for old in libraries[MOST_LIBRARIES:]:
            old.unlink(missing_ok=True)
            old.with_suffix(".sha256").unlink(missing_ok=True)


def open_own(path: Path) -> BinaryIO:
    """The opened file; ``OSError`` if it is a link, or if somebody else can have written it."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(handle)
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISREG(status.st_mode) or others or status.st_uid not in (os.getuid(), 0):
        os.close(handle)
        raise OSError(0, "it is not this user's own", str(path))
    return os.fdopen(handle, "rb")


@contextmanager
def build_part(folder: Path) -> Iterator[Path]:
    """A new folder for one build, which is gone afterwards. This process holds a lock on it.

    The kernel releases the lock with the process, however it ends.
    """
    remove_abandoned(folder)
    while True:
        part = Path(tempfile.mkdtemp(dir=folder, prefix=PART))
        with suppress(FileNotFoundError):
            handle = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if part.exists():
                break
            os.close(handle)  # somebody cleaned up before it was locked
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)
        os.close(handle)


def remove_abandoned(folder: Path) -> None:
    """Delete what killed builds of this user left in ``folder``: parts that nobody has locked."""
    for part in folder.glob(f"{PART}*"):
        with suppress(OSError):
            handle = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(handle).st_uid == os.getuid():
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails if it is in use
                    shutil.rmtree(part, ignore_errors=True)
            finally:
                os.close(handle)
