"""Files that are complete or absent: written under a temporary name, synced, renamed.

Temporary names are random and new, and nothing is ever written through a symbolic link, so that
nobody who can write to a folder can send what lorita writes elsewhere.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from lorita.errors import OutputError
from lorita.storage.disk import remove

PART = ".lorita.part"
"""The ending of incomplete files and folders in a folder that has one writer. Their names also
begin with a dot, and have eight random characters before the ending."""
_PART_NAME = re.compile(r"\..+\.[a-z0-9_]{8}" + re.escape(PART), re.DOTALL)
_LONGEST = 100
"""Bytes of a name that go into the names derived from it; a system allows 255 for the whole."""


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path``; readers see the old file or the new one, never a part."""
    data = encoded(content) if isinstance(content, str) else content
    prefix = f".{short_name(path)}."
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=PART)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp creates files that only their owner can read.
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def append_line(path: Path, line: str) -> None:
    """Append a line to a file, which is created if it does not exist.

    ``OutputError`` if it is a symbolic link.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    try:
        handle = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OutputError(f"{path}: a symbolic link, so nothing is written there") from None
    with os.fdopen(handle, "ab") as file:
        file.write(encoded(line + "\n"))


def encoded(text: str) -> bytes:
    """UTF-8, with the bytes of file names that are not UTF-8 as JSON and YAML escape them."""
    return text.encode("utf-8", "backslashreplace")


def short_name(path: Path) -> str:
    """The name of a file, or a hash of it where it is too long to derive other names from."""
    name = os.fsencode(path.name)
    return path.name if len(name) <= _LONGEST else hashlib.sha256(name).hexdigest()[:32]


def new_part(path: Path) -> Path:
    """A new private folder beside ``path``, under a temporary name."""
    return Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{short_name(path)}.", suffix=PART))


def is_part(name: str) -> bool:
    """Whether this is the name of an incomplete file or folder of lorita's."""
    return _PART_NAME.fullmatch(name) is not None


def remove_parts(folder: Path) -> None:
    """Delete what a process that was killed while writing has left in ``folder``.

    Only for the one writer of the folder: everybody else's parts are taken for leftovers.
    """
    for part in folder.iterdir():
        if is_part(part.name):
            remove(part)


def make_folders(folder: Path) -> list[Path]:
    """Create ``folder`` and those above it; returns what was created, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    made: list[Path] = []
    try:
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            made.insert(0, path)
        folder.mkdir(exist_ok=True)  # raises if it is a file
    except OSError:
        remove_empty(made)
        raise
    return made


def remove_empty(folders: list[Path]) -> None:
    """Delete these folders, the innermost first, as far as they are empty."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def check_parent(path: Path) -> None:
    """``OutputError`` unless something can be created at ``path``; creates nothing."""
    parent = next(p for p in path.absolute().parents if os.path.lexists(p))
    if not parent.is_dir():
        raise OutputError(f"{path}: {parent} is a file, so nothing can be created in it")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: {parent} is not writable")


def check_room(path: Path, size: int) -> None:
    """Raise ``OutputError`` unless the disk that holds ``path`` has ``size`` bytes left."""
    parent = next(p for p in path.absolute().parents if p.exists())
    free = shutil.disk_usage(parent).free
    if free < size:
        raise OutputError(
            f"{path}: needs {size / 1e9:.2f} GB, but the disk has {free / 1e9:.2f} GB left",
            hint="Free some space, or write to another disk.",
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
