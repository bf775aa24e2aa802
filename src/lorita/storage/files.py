"""Files that are complete or absent: written under a temporary name, synced, renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorita.errors import OutputError

PART = ".part"
"""The ending of incomplete files and folders, whose names also begin with a dot."""


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path``; readers see the old file or the new one, never a part."""
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
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


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` survive a power failure, on systems that can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_parts(folder: Path) -> None:
    """Delete what a process that was killed while writing has left in ``folder``."""
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
    """Raise ``OutputError`` unless a file or folder can be created at ``path``; creates nothing."""
    if path.exists() and not overwrite:
        raise OutputError(
            f"{path}: already exists", hint="Choose another name, or replace it with --overwrite."
        )
    parent = next(p for p in path.absolute().parents if p.exists())
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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` for a file or folder, renamed to ``path`` on success.

    What was at ``path`` stays until then. Raises ``OutputError`` if it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        _swap(part, path)
        sync_folder(path.parent)
    except OSError as error:
        if error.filename is not None and not str(error.filename).startswith(str(path.parent)):
            raise  # another file could not be read
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error})",
            hint="No incomplete file was left under this name.",
        ) from error
    finally:
        _remove(part)


def _swap(part: Path, path: Path) -> None:
    """Rename ``part`` to ``path``; an existing folder moves aside first."""
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
