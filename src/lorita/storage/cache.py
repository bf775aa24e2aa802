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
    """Where ``kept_folder`` keeps it; a folder there is whole."""
    from huggingface_hub.constants import HF_HOME

    key = hashlib.sha256(mark.encode()).hexdigest()[:16]
    return Path(HF_HOME) / "lorita" / f"{kind}-{key}"


def kept_folder(kind: str, mark: str, make: Callable[[Path], None]) -> Path:
    """The folder that ``make`` filled for this ``mark``, filled now if it is not there.

    ``mark`` names everything that the content depends on. The folder appears when it is whole;
    nothing stays behind where ``make`` fails. Where the cache cannot be written, the folder is a
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
    """What changes when one of the files does: place, size and time of each."""
    marks = []
    for path in paths:
        status = path.stat()
        marks.append(f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}")
    return "|".join(marks)
