"""Files that are whole or not there: written under a temporary name, synced, renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorita.errors import OutputError

PART = ".part"
"""How the names of files and folders end that are not whole; they also begin with a dot."""


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path``; a reader sees the old file or the new one, never a part."""
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner can read.
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` survive a power cut, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_parts(folder: Path) -> None:
    """Take out what a process left that was killed while it wrote."""
    for part in folder.glob(f".*{PART}"):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def check_target(path: Path, *, overwrite: bool) -> None:
    """``OutputError`` unless a file or folder can be made at ``path``. Nothing is created."""
    if path.exists() and not overwrite:
        raise OutputError(
            f"{path}: is there already", hint="Choose another name, or replace it with --overwrite."
        )
    parent = next(p for p in path.absolute().parents if p.exists())
    if not parent.is_dir():
        raise OutputError(f"{path}: {parent} is a file, so nothing can be made in it")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: {parent} is not writable")


def check_room(path: Path, size: int) -> None:
    """``OutputError`` unless the disk under ``path`` has ``size`` bytes left."""
    parent = next(p for p in path.absolute().parents if p.exists())
    free = shutil.disk_usage(parent).free
    if free < size:
        raise OutputError(
            f"{path}: needs {size / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB left",
            hint="Make room, or write to another disk.",
        )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` for a file or folder; it takes its place when all went well.

    What was there stays until then. ``OutputError`` where the disk refuses.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        _swap(part, path)
        sync_folder(path.parent)
    except OSError as error:
        if error.filename is not None and not str(error.filename).startswith(str(path.parent)):
            raise  # something else could not be read
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error})",
            hint="Nothing was left under this name that is not whole.",
        ) from error
    finally:
        _remove(part)


def _swap(part: Path, path: Path) -> None:
    """Put ``part`` in the place of ``path``; a folder that is there moves aside first."""
    if not path.is_dir():
        part.replace(path)
        return
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    path.rename(old)
    try:
        part.rename(path)
    except OSError:
        old.rename(path)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
