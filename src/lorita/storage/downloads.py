"""Whether files from the hub arrived as the hub has them.

The hub's client compares sizes only. The name of a file in its cache is the hash that the hub
stated for it: SHA-256 for large files, git's for others.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from lorita.errors import LoritaError, ModelError
from lorita.storage.cache import kept_folder, mark_of

_READ = 2**24


def check_download(hub_id: str, revision: str | None) -> None:
    """``ModelError`` if a file of a model that was downloaded is not what the hub has."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    if isinstance(config, str):
        require_intact(hub_id, Path(config).parent, ModelError)


def require_intact(hub_id: str, snapshot: Path, kind: type[LoritaError]) -> None:
    """Raise ``kind`` if a file of a snapshot in the hub's cache has another hash than it should.

    A gigabyte takes about a second; files are read once after they were downloaded.
    """
    blobs = {path.resolve(): path.name for path in sorted(snapshot.iterdir()) if path.is_symlink()}
    stated = {blob: name for blob, name in blobs.items() if _stated(blob) and blob.is_file()}
    if stated:
        kept_folder("verified", mark_of(*stated), lambda _: _compare(hub_id, stated, kind))


def _compare(hub_id: str, stated: dict[Path, str], kind: type[LoritaError]) -> None:
    wrong = [blob for blob in stated if _hash(blob) != blob.name]
    if wrong:
        raise kind(
            [f"{hub_id}: {stated[blob]} is not what the hub has (another hash)" for blob in wrong],
            hint="The download was damaged or changed. Delete and repeat it: "
            + " ".join(str(blob) for blob in wrong),
        )


def _stated(blob: Path) -> bool:
    return re.fullmatch("[0-9a-f]{64}|[0-9a-f]{40}", blob.name) is not None


def _hash(blob: Path) -> str:
    found = hashlib.sha256()
    if len(blob.name) == 40:
        found = hashlib.sha1(b"blob %d\0" % blob.stat().st_size, usedforsecurity=False)
    with blob.open("rb") as file:
        while piece := file.read(_READ):
            found.update(piece)
    return found.hexdigest()
