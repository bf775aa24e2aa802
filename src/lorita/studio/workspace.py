"""The folder that a studio works in: its runs, and what it keeps beside them.

Names that come from a browser are looked up here or made anew; none is ever used as a path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from lorita.errors import OutputError
from lorita.storage.files import make_folders
from lorita.storage.locks import LOCK_FILE, holder
from lorita.storage.run_folder import LOG_FILE, RECORD_FILE, is_run
from lorita.studio.words import Told

OWN = "studio"
"""The folder in a studio's folder that is no run: uploads, exports and the output of commands."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass
class Draft:
    """What was last chosen in the page, so that a window that is opened again shows it."""

    data: str = ""
    fields: dict[str, str] = field(default_factory=dict)


@dataclass
class Workspace:
    """One studio's ``folder``; ``draft`` lives as long as the server."""

    folder: Path
    draft: Draft = field(default_factory=Draft)

    @property
    def uploads(self) -> Path:
        """Where uploaded and pasted data is kept; runs name it as their data."""
        return self.folder / OWN / "data"

    @property
    def exports(self) -> Path:
        """Where exports are written."""
        return self.folder / OWN / "exports"

    def make(self, place: Path) -> Path:
        """Create one of the folders above; ``OutputError`` if a link leads elsewhere from there."""
        for part in (place, *place.parents):
            if part == self.folder:
                break
            if part.is_symlink():
                raise OutputError(f"{part}: a symbolic link, so nothing is written there")
        make_folders(place)
        return place

    def output(self, name: str) -> Path:
        """The file with what the command of a run has printed."""
        return self.folder / OWN / "output" / f"{name}.txt"

    def runs(self) -> list[str]:
        """The names of the runs, finished or not, the newest first."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if path.name != OWN and _is_begun(path)]
        return [path.name for path in sorted(found, key=_changed, reverse=True)]

    def run(self, name: str | None) -> Path:
        """The folder of an existing run; ``Told`` for any other name."""
        if not name or name not in self.runs():
            raise Told("no_such_run")
        return self.folder / name

    def new_run(self, name: str) -> Path:
        """The folder for a run that is to begin; ``Told`` if the name is bad or taken."""
        if not _NAME.fullmatch(name) or name.lower() == OWN or name.endswith("."):
            raise Told("bad_name", name=name[:80] or "–")
        folder = self.folder / name
        if folder.exists() or folder.is_symlink():
            raise Told("name_taken", name=name)
        return folder

    def free_name(self, wanted: str) -> str:
        """A name like ``wanted`` that no run has yet."""
        base = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("-._")[:60] or "run"
        base = f"{base}-1" if base.lower() == OWN else base
        taken = {p.name.lower() for p in self.folder.iterdir()} if self.folder.is_dir() else set()
        names = (base if i == 1 else f"{base}-{i}" for i in range(1, len(taken) + 3))
        return next(name for name in names if name.lower() not in taken)

    def training(self) -> str | None:
        """The name of a run that some process writes to now; None if there is none."""
        for name in self.runs():
            if holder(self.folder / name / LOCK_FILE) is not None:
                return name
        return None


def _is_begun(path: Path) -> bool:
    """Whether a folder is a run, or will be one in a moment."""
    return is_run(path) or (path / LOG_FILE).is_file() or (path / LOCK_FILE).is_file()


def _changed(run: Path) -> float:
    files = (run / RECORD_FILE, run / LOG_FILE, run)
    times = []
    for file in files:
        try:
            times.append(file.stat().st_mtime)
        except OSError:
            continue
    return max(times, default=0.0)
