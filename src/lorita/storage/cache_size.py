"""How large a folder of lorita's caches is, and how it is made smaller.

Only what lorita writes there is counted and deleted: by its name, owner and kind. Links are neither
followed nor deleted, and neither is what another process is writing (it holds a lock on its part).
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lorita.storage.disk import remove
from lorita.storage.parts import ENDING, is_abandoned

LIMIT = 10 * 10**9
"""Bytes that a folder of caches may hold; the longest unused go first."""
JUST_USED = 3600
"""Seconds in which an entry is not deleted for its size: a running command may need it."""
_NAMES = (
    r"[0-9a-f]{40}\.(arrow|json)",  # tables of data
    r"[^.][^/]*-[0-9a-f]{16}",  # converted models and adapters
    r"[a-z]+-[0-9a-f]{16}\.(so|sha256)",  # compiled kernels
)
_OWN = re.compile("|".join(f"(?:{name})" for name in _NAMES))


@dataclass
class Entry:
    """Files or a folder that belong together, their bytes, and when they were used last."""

    paths: list[Path] = field(default_factory=list)
    size: int = 0
    used: float = 0.0


def entries_in(folder: Path) -> list[Entry]:
    """What lorita keeps in ``folder``, the longest unused first; empty if there is no folder."""
    found: dict[str, Entry] = {}
    for path in _own(folder):
        with suppress(OSError):
            name = path.name if path.is_dir() else path.name.partition(".")[0]
            entry = found.setdefault(name, Entry())
            entry.paths.append(path)
            entry.size += size_of(path)
            entry.used = max(entry.used, path.lstat().st_mtime)
    return sorted(found.values(), key=lambda entry: entry.used)


def _own(folder: Path) -> Iterator[Path]:
    try:
        paths = sorted(folder.iterdir()) if not folder.is_symlink() else []
    except OSError:
        return
    for path in paths:
        try:
            status = path.lstat()
        except OSError:
            continue
        plain = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
        own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
        if plain and own and _OWN.fullmatch(path.name):
            yield path


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; links count as nothing."""
    total = 0
    for base, folders, files in os.walk(path, followlinks=False):
        for name in files:
            with suppress(OSError):
                status = (Path(base) / name).lstat()
                total += status.st_size if stat.S_ISREG(status.st_mode) else 0
        folders[:] = [name for name in folders if not (Path(base) / name).is_symlink()]
    return total if path.is_dir() else path.lstat().st_size


def keep_below(folder: Path, limit: int | None = None) -> int:
    """Delete the longest unused entries until ``limit`` bytes (``LIMIT``) hold the rest.

    Returns the bytes deleted.
    """
    entries = entries_in(folder)
    limit = LIMIT if limit is None else limit
    excess, deleted = sum(entry.size for entry in entries) - limit, 0
    for entry in entries:
        if deleted >= excess or time.time() - entry.used < JUST_USED:
            break
        _delete(entry)
        deleted += entry.size
    return deleted


def prune(folder: Path) -> int:
    """Delete all entries, and what killed commands left unfinished; the bytes deleted."""
    deleted = 0
    for entry in entries_in(folder):
        _delete(entry)
        deleted += entry.size
    if folder.is_symlink() or not folder.is_dir():
        return deleted
    for part in folder.glob(f".*{ENDING}"):
        with suppress(OSError):
            if part.is_dir() and not part.is_symlink() and is_abandoned(part):
                deleted += size_of(part)
                remove(part)
    return deleted


def _delete(entry: Entry) -> None:
    for path in entry.paths:
        with suppress(OSError):  # on Windows, files in use stay
            remove(path)
