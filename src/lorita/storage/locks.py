"""One writer per folder or target: locks that the kernel releases when their process ends.

A lock is a small file that says who holds it. Its holder deletes it while it still holds the lock,
and whoever takes one makes sure that the file it locked is the one under the name, so two processes
never hold locks on different files of the same name. A lock file that a killed process left is
taken over.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import socket
import stat
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lorita.errors import LoritaWarning, OutputError

LOCK_FILE = ".lorita-lock"
"""In a folder with one writer. The lock of a merge or an export, ``.NAME.lorita-lock``, is beside
what it writes."""
_NO_LOCKS = {errno.ENOSYS, errno.EINVAL, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
_TRIES = 10
"""Times to try, some hundredths of a second apart: others who only look hold a lock for a moment.
"""
_MOST_SAID = 160
_PLACE = 1 << 30
"""On Windows a locked byte cannot be read, so it is one behind the text."""


class NoLocks(OSError):
    """This file system has no locks."""


@contextmanager
def hold(lock: Path, what: Path, *, advice: str) -> Iterator[None]:
    """Hold the lock file ``lock``, which protects ``what``, while the block runs.

    ``OutputError`` with ``advice`` if another process holds it. On a file system without locks
    there is a ``LoritaWarning``, and nothing is held.
    """
    try:
        handle = _take(lock)
    except NoLocks:
        text = "this file system has no locks: do not write there with two processes at once"
        warnings.warn(f"{what}: {text}", LoritaWarning, stacklevel=3)
        yield
        return
    if handle is None:
        raise _held(lock, what, advice)
    try:
        _sign(handle)
        yield
    finally:
        _release(handle, lock)


def require_free(lock: Path, what: Path, *, advice: str) -> None:
    """``OutputError`` if another process holds the lock now. Creates nothing."""
    try:
        handle = os.open(lock, _flags(os.O_RDONLY))
    except OSError:
        return  # there is none, or what is wrong with it is said when it is taken
    try:
        free = _try_lock(handle, shared=True)
    except NoLocks:
        free = True
    finally:
        os.close(handle)
    if not free:
        raise _held(lock, what, advice)


def holder(lock: Path) -> int | None:
    """The process of this machine that holds the lock now; None if there is none. Never raises.

    It is 0 if the lock is held, and by whom is not known.
    """
    try:
        handle = os.open(lock, _flags(os.O_RDONLY))
    except OSError:
        return None
    try:
        if _try_lock(handle, shared=True):
            return None
        owner = json.loads(os.read(handle, 4096))
        return int(owner["pid"]) if owner["host"] == socket.gethostname() else 0
    except NoLocks:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    finally:
        os.close(handle)


@contextmanager
def if_free(lock: Path) -> Iterator[bool]:
    """Hold the lock if nobody else does; yields whether it is held. Never raises ``OSError``."""
    handle = None
    with suppress(OSError, OutputError):
        handle = _take(lock, tries=1)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            _release(handle, lock)


def _take(lock: Path, *, tries: int = _TRIES) -> int | None:
    """The descriptor of the locked file; None if another process holds it."""
    for left in reversed(range(tries)):
        handle = _open(lock)
        try:
            if not _try_lock(handle):
                os.close(handle)
                if left:
                    time.sleep(0.02)
                continue
        except OSError:
            _release(handle, lock)
            raise
        if _is_at(handle, lock):
            return handle
        os.close(handle)  # its holder deleted it after it was opened here
    return None


def _open(lock: Path) -> int:
    handle = os.open(lock, _flags(os.O_RDWR | os.O_CREAT), 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OutputError(f"{lock}: not a plain file, so it cannot be a lock")
    return handle


def _flags(access: int) -> int:
    """Never through a symbolic link, never waiting for a pipe, never left to other programs."""
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):
        access |= getattr(os, name, 0)
    return access


def _try_lock(handle: int, *, shared: bool = False) -> bool:
    """Lock without waiting; False if that is not possible now. ``NoLocks`` if it never is."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, _PLACE, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise NoLocks(error.errno, error.strerror) from None
        return False
    return True


def _is_at(handle: int, lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(lock))
    except FileNotFoundError:
        return False


def _release(handle: int, lock: Path) -> None:
    """Delete the lock file, then let go of it. Where it cannot be deleted, it stays."""
    if sys.platform == "win32":  # an open file cannot be deleted, nor one that others have open
        os.close(handle)
        with suppress(OSError):
            lock.unlink()
        return
    with suppress(OSError):
        if _is_at(handle, lock):
            lock.unlink()
    os.close(handle)


def _sign(handle: int) -> None:
    """Write who holds the lock. A full disk is no reason not to hold it."""
    owner = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": _command(),
    }
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, json.dumps(owner).encode())


def _command() -> str:
    program = "lorita" if Path(sys.argv[0]).name in ("lorita", "__main__.py") else sys.argv[0]
    return shlex.join([program, *sys.argv[1:]])[:_MOST_SAID]


def _held(lock: Path, what: Path, advice: str) -> OutputError:
    try:
        owner: Any = json.loads(lock.read_bytes()[:4096])
        there = "" if owner["host"] == socket.gethostname() else f" on {owner['host']}"
        who = f"process {owner['pid']}{there}, since {owner['since']}: {owner['command']}"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process"
    said = "".join(c if c.isprintable() else "?" for c in who)[: 3 * _MOST_SAID]
    return OutputError(f"{what}: is being written by {said}", hint=advice)
