"""Symbolic links in folders that may come from elsewhere: a link there can lead to any file."""

from __future__ import annotations

from pathlib import Path


def is_plain(path: Path) -> bool:
    """Whether ``path`` is an ordinary file itself, not a link to one."""
    return path.is_file() and not path.is_symlink()


def leads_out(path: Path, folder: Path) -> Path | None:
    """Where ``path`` in ``folder`` really leads, if that is outside the folder; None if inside.

    The hub's cache keeps the files of a snapshot (``REPOSITORY/snapshots/COMMIT``) as links to
    ``REPOSITORY/blobs``, which belongs to it. Whether there is anything at the end does not matter.
    """
    try:
        real, inside = path.resolve(), folder.resolve()
    except RuntimeError:  # a link to itself
        return path
    allowed = [inside]
    for parent in (inside, *inside.parents):
        if parent.parent.name == "snapshots":
            allowed.append(parent.parent.parent / "blobs")
    return None if any(real.is_relative_to(place) for place in allowed) else real
