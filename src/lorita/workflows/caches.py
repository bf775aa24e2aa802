"""The caches that lorita keeps, shown and emptied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorita.engine.kernels.library_cache import cache_folder
from lorita.storage.cache import KEPT_DAYS, cache_folders
from lorita.storage.cache_size import LIMIT, entries_in, prune
from lorita.system.memory import gigabytes


@dataclass(frozen=True)
class Cache:
    """What a cache holds, its bytes, and where it is."""

    holds: str
    bytes: int
    folder: str


def find_caches() -> tuple[Cache, ...]:
    """The caches, whether or not they hold anything."""
    return tuple(
        Cache(what, sum(entry.size for entry in entries_in(folder)), str(folder))
        for what, folder in _folders().items()
    )


def cache_lines(caches: Sequence[Cache]) -> list[str]:
    """A line for each cache, and what limits them."""
    return [
        *(f"Cache, {each.holds}: {_shown(each.bytes)} in {each.folder}" for each in caches),
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
