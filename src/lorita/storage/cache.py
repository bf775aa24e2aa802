"""Folders where lorita caches converted models and adapters (``HF_HOME``) and tables of data."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def tables_folder() -> Path:
    """The folder of cached tables, beside those of ``datasets`` (``HF_DATASETS_CACHE``)."""
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / "lorita"


def kept_at(kind: str, mark: str) -> Path:
    """The path at which ``kept_folder`` keeps its folder; if it exists, it is complete."""
    from huggingface_hub.constants import HF_HOME

    key = hashlib.sha256(mark.encode()).hexdigest()[:16]
    return Path(HF_HOME) / "lorita" / f"{kind}-{key}"


def kept_folder(kind: str, mark: str, make: Callable[[Path], None]) -> Path:
    """The folder that ``make`` filled for this ``mark``, made now if it does not exist.

    ``mark`` names everything the content depends on. The folder appears only once complete; if
    ``make`` fails, nothing is left behind. If the cache cannot be written, the folder is a
    temporary one.
    """
    folder = kept_at(kind, mark)
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{kind}-"))
    except OSError:
        part = folder = Path(tempfile.mkdtemp(prefix=f"lorita-{kind}-"))
    try:
        make(part)
        if part != folder:
            _put(part, folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return folder


def _put(part: Path, folder: Path) -> None:
    try:
        part.replace(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(part)  # another process was faster


def mark_of(*paths: Path) -> str:
    """A text that changes whenever one of the files does: path, size and modification time."""
    marks = []
    for path in paths:
        status = path.stat()
        marks.append(f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}")
    return "|".join(marks)
