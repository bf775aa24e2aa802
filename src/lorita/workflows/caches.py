"""The caches that lorita keeps, shown and emptied."""

from __future__ import annotations

from pathlib import Path

from lorita.engine.kernels.library_cache import cache_folder
from lorita.storage.cache import KEPT_DAYS, cache_folders
from lorita.storage.cache_size import LIMIT, entries_in, prune
from lorita.system.memory import gigabytes


def cache_lines() -> list[str]:
    """A line for each cache: what it holds, how much, and where."""
    lines = []
    for what, folder in _folders().items():
        size = sum(entry.size for entry in entries_in(folder))
        lines.append(f"Cache, {what}: {_shown(size)} in {folder}")
    return [
        *lines,
        f"Caches are limited to {gigabytes(LIMIT)} each, and what was not used for {KEPT_DAYS} "
        "days is deleted; lorita doctor --prune empties them",
    ]


def prune_caches() -> list[str]:
    """Empty the caches, and say how much was deleted in each."""
    return [
        f"Cache, {what}: {_shown(prune(folder))} deleted from {folder}"
        for what, folder in _folders().items()
    ]


def _folders() -> dict[str, Path]:
    return {**cache_folders(), "compiled kernels": cache_folder()}


def _shown(size: int) -> str:
    return gigabytes(size) if size >= 10**9 else f"{size / 1e6:.1f} MB"
