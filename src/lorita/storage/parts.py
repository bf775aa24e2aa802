"""Unfinished work on disk: in a private folder that its process holds a lock on.

The operating system releases the lock with the process, however it ends. So a part whose lock can
be taken belongs to nobody, and whoever finds it removes it. What is finished is renamed out of its
part; the part itself never gets another name.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

ENDING = ".part"
UNLOCKED_AGE = 86400
"""Where there are no locks, a part is abandoned once it is older than this many seconds."""


class Part:
    """A new private folder in ``folder``, called ``.KIND-RANDOM.part``, locked by this process.

    ``path`` is where to write. Leaving the context, or ``remove``, deletes it with what is in it.
    Raises ``OSError`` if it cannot be created.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        while True:
            self.path = Path(tempfile.mkdtemp(dir=folder, prefix=f".{kind}-", suffix=ENDING))
            self._handle = _lock(self.path)
            if self.path.exists():
                break
            self._release()  # another process removed it before it was locked

    def remove(self) -> None:
        """Delete the folder and release the lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._release()

    def _release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def remove_abandoned(folder: Path, kind: str = "*") -> None:
    """Delete the parts of this user in ``folder`` that no running process holds."""
    for path in folder.glob(f".{kind}-*{ENDING}"):
        with suppress(OSError):
            if path.is_dir() and not path.is_symlink() and is_abandoned(path):
                shutil.rmtree(path, ignore_errors=True)


def _lock(path: Path) -> int | None:
    """The open, locked folder; None where folders cannot be locked."""
    if sys.platform == "win32":
        return None
    with suppress(FileNotFoundError):
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        return handle
    return None


def is_abandoned(path: Path) -> bool:
    """Whether a part is this user's, and its lock can be taken; its age decides without locks."""
    status = path.lstat()
    old = time.time() - status.st_mtime > UNLOCKED_AGE
    if sys.platform == "win32":
        return old
    if status.st_uid != os.getuid():
        return False
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # its process is running
    except OSError:  # a file system without locks
        return old
    finally:
        os.close(handle)
    return True
