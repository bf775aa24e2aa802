"""Data from the browser: uploaded files and pasted texts become files with names of our own.

Only the ending of a file's name is taken over, and only if files of that kind can be read. The same
content is kept once; a file is only taken for the same where it has the same hash.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

from lorita.data.sources.open_file import KINDS, PACKINGS
from lorita.storage.files import new_part, write_atomic
from lorita.storage.links import is_plain
from lorita.studio.words import Told
from lorita.studio.workspace import Workspace

MOST_BYTES = 200 * 2**20
"""Of an upload. Larger files are given by their name, which copies nothing."""
FEWEST = 2


def keep_file(workspace: Workspace, uploaded: Path) -> str:
    """Keep an uploaded file; returns the path under which runs name it. ``Told`` if it is none."""
    name = uploaded.name
    endings = _endings(name)
    size = uploaded.stat().st_size
    if size == 0:
        raise Told("empty_file", name=name)
    if size > MOST_BYTES:
        raise Told("too_large", size=f"{MOST_BYTES // 2**20} MB")
    kept = _place(workspace, name[: len(name) - len(endings)], _digest(uploaded), endings)
    if not kept.exists():
        part = new_part(kept)
        try:
            shutil.copyfile(uploaded, part / "data")
            (part / "data").replace(kept)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return str(kept)


def keep_text(workspace: Workspace, text: str) -> str:
    """Keep pasted texts, one per line, as a file; returns its path."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    rows = [line for line in lines if line.strip()]
    if not rows:
        raise Told("empty_text")
    if len(rows) < FEWEST:
        raise Told("few_texts", count=len(rows))
    content = "\n".join(rows).encode("utf-8", "replace") + b"\n"
    if len(content) > MOST_BYTES:
        raise Told("too_large", size=f"{MOST_BYTES // 2**20} MB")
    kept = _place(workspace, "pasted", hashlib.sha256(content).hexdigest(), ".txt")
    if not kept.exists():
        write_atomic(kept, content)
    return str(kept)


def run_name(data: str) -> str:
    """What a run on this data may be called: the name of the file without what was added."""
    name = Path(data).name
    stem = name[: len(name) - len(_endings(name, required=False))]
    return re.sub(r"-[0-9a-f]{8}$", "", stem) or "run"


def _place(workspace: Workspace, stem: str, digest: str, endings: str) -> Path:
    """Where the content of this hash lies or will lie. What else is in the way stays."""
    workspace.make(workspace.uploads)
    safe = re.sub(r"[^\w-]+", "-", stem).strip("-_")[:40] or "data"
    names = (f"{safe}-{digest[:length]}{endings}" for length in (8, 16, 32, len(digest)))
    places = [workspace.uploads / name for name in names]
    for place in places:
        if not os.path.lexists(place) or (is_plain(place) and _digest(place) == digest):
            return place
    raise Told("name_taken", name=places[-1].name)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _endings(name: str, *, required: bool = True) -> str:
    """The ending by which lorita recognises the file, ``.csv`` or ``.csv.gz``."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes[-2:]]
    if suffixes and suffixes[-1] in KINDS:
        return suffixes[-1]
    if len(suffixes) == 2 and suffixes[0] in KINDS and suffixes[1] in PACKINGS:
        return "".join(suffixes)
    if required:
        raise Told("unknown_kind", name=name[:80], kinds=" ".join(KINDS))
    return suffixes[-1] if suffixes else ""
