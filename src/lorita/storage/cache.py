"""Folders where lorita caches converted models and adapters (``HF_HOME``) and tables of data.

They hold what was made from the user's data and models, so they are private (0700), and only what
this user wrote there, whole, is believed. Whatever has not been used for ``KEPT_DAYS`` is deleted
by the next command that uses the folder, and so is what a killed process was still writing, and
what is longest unused if all of it is too large (``cache_size``).
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lorita.errors import DataError
from lorita.storage.cache_size import keep_below
from lorita.storage.disk import remove, sync
from lorita.storage.parts import Part, remove_abandoned
from lorita.storage.private import (
    PRIVATE_FILE,
    PRIVATE_FOLDER,
    existing_folder,
    is_own_folder,
    open_own,
    private_folder,
)

KEPT_DAYS = 30
MANIFEST = ".complete.json"
"""In a kept folder: its files and their marks, written last."""
_ENDS = 2**20
"""Bytes at the beginning and at the end of a file that its mark covers, beside its size."""
_cleaned: set[Path] = set()
_temporary: dict[tuple[str, str], Path] = {}


def tables_folder() -> Path:
    """The folder of cached tables, beside those of ``datasets`` (``HF_DATASETS_CACHE``).

    Raises ``DataError`` if it cannot be written.
    """
    place = _datasets_cache()
    try:
        return _clean(private_folder(place))
    except OSError as error:
        raise DataError(
            f"{place}: the cache cannot be written ({error.strerror or error})",
            hint="Choose another folder with HF_DATASETS_CACHE.",
        ) from error


def _datasets_cache() -> Path:
    """Where ``datasets`` keeps its tables, by its own rule: to import it takes a second."""
    if "datasets" in sys.modules:
        from datasets import config  # waits where another thread is still importing it

        return Path(config.HF_DATASETS_CACHE)
    general = os.path.join(os.getenv("XDG_CACHE_HOME", "~/.cache"), "huggingface")  # noqa: PTH118
    home = Path(os.getenv("HF_HOME", general)).expanduser()
    return Path(os.getenv("HF_DATASETS_CACHE", home / "datasets"))


def mark_used(path: Path) -> None:
    """Note that an entry has been used; it is kept ``KEPT_DAYS`` from now."""
    with suppress(OSError):
        os.utime(path)


def find_kept(kind: str, mark: str) -> Path | None:
    """The folder that ``kept_folder`` made for this ``mark``; None if it has to be made."""
    try:
        folder = _kept_at(kind, mark)
    except OSError:
        return None
    if not _is_complete(folder):
        return None
    mark_used(folder)
    return folder


def kept_folder(kind: str, mark: str, make: Callable[[Path], None]) -> Path:
    """The folder that ``make`` filled for this ``mark``, made now if it does not exist.

    ``mark`` names everything the content depends on. The folder appears only once complete; if
    ``make`` fails, nothing is left behind. One that is damaged, or not this user's, is made again.
    If the cache cannot be written, the folder is a temporary one, which goes with the process.
    """
    found = find_kept(kind, mark)
    if found is not None:
        return found
    try:
        folder = _kept_at(kind, mark)
        part = Part(folder.parent, kind)
    except OSError:
        return _made_for_now(kind, mark, make)
    with part:
        made = part.path / "made"
        made.mkdir(PRIVATE_FOLDER)
        make(made)
        _complete(made)
        _put(made, folder)
    return folder


def _kept_at(kind: str, mark: str) -> Path:
    """Where a folder is kept; ``OSError`` if there can be no private folder for it."""
    from huggingface_hub.constants import HF_HOME

    key = hashlib.sha256(mark.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return _clean(private_folder(Path(HF_HOME))) / f"{kind}-{key}"


def _made_for_now(kind: str, mark: str, make: Callable[[Path], None]) -> Path:
    """A folder among the temporary files, made once for this process and deleted at its end."""
    key = (kind, mark)
    if key not in _temporary:
        place = Path(tempfile.gettempdir())
        remove_abandoned(place, "lorita-*")
        part = Part(place, f"lorita-{kind}")
        atexit.register(part.remove)
        try:
            make(part.path)
        except BaseException:
            part.remove()
            raise
        _temporary[key] = part.path
    return _temporary[key]


def _clean(folder: Path) -> Path:
    """The folder, without what is abandoned or unused; looked through once in each process."""
    if folder in _cleaned:
        return folder
    _cleaned.add(folder)
    remove_abandoned(folder)
    oldest = time.time() - KEPT_DAYS * 86400
    for entry in folder.iterdir():
        with suppress(OSError):  # another process was faster, or it is in use on Windows
            if entry.name.startswith(".") or entry.lstat().st_mtime >= oldest:
                continue
            remove(entry)
    keep_below(folder)
    return folder


def cache_folders() -> dict[str, Path]:
    """Where the caches are, by what they hold; the folders need not exist."""
    import datasets
    from huggingface_hub.constants import HF_HOME

    places = {
        "tables of data": Path(datasets.config.HF_DATASETS_CACHE),
        "converted models and adapters": Path(HF_HOME),
    }
    return {what: existing_folder(place) for what, place in places.items()}


def _complete(folder: Path) -> None:
    """Make the files private, and write the manifest once they are on disk."""
    marks = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        path.chmod(PRIVATE_FILE)
        sync(path)
        marks[path.relative_to(folder).as_posix()] = _content_mark(path)
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps(marks, ensure_ascii=True), encoding="ascii")
    manifest.chmod(PRIVATE_FILE)
    sync(manifest)
    sync(folder)


def _is_complete(folder: Path) -> bool:
    """Whether the folder is this user's and holds what its manifest says."""
    if not is_own_folder(folder):
        return False
    try:
        with open_own(folder / MANIFEST) as file:
            marks = json.load(file)
        return isinstance(marks, dict) and all(
            _content_mark(folder / name) == mark for name, mark in marks.items()
        )
    except (OSError, ValueError, RecursionError):
        return False


def _content_mark(path: Path) -> str:
    """A hash of size, beginning and end: shows a file that was cut or never reached the disk."""
    with open_own(path) as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(f"{size}:".encode() + file.read(_ENDS))
        file.seek(max(size - _ENDS, 0))
        digest.update(file.read(_ENDS))
    return digest.hexdigest()


def _put(made: Path, folder: Path) -> None:
    """Rename the finished folder; one that is there by now is kept if it is whole."""
    for _ in range(2):
        try:
            made.replace(folder)
            sync(folder.parent)
            return
        except OSError:
            if _is_complete(folder):
                return  # another process was faster
            remove(folder)
    made.replace(folder)


def mark_of(*paths: Path) -> str:
    """A text that changes whenever one of the files does: path, size and modification time."""
    marks = []
    for path in paths:
        status = path.stat()
        marks.append(f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}")
    return "|".join(marks)
