"""What lorita wrote in a folder: ``.lorita-files`` lists it, and only what it lists is removed.

A name is listed before the file is written, so that a process may be killed at any moment: what it
left is listed, or it has a temporary name. The list is data like any other file. It is not believed
where it names anything outside its own folder.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lorita.errors import LoritaWarning, OutputError
from lorita.storage.disk import remove
from lorita.storage.files import is_part, new_part, write_atomic
from lorita.storage.locks import LOCK_FILE

MANIFEST = ".lorita-files"
FORMAT = 1
RUN, SWEEP, MODEL, OLLAMA = "run", "sweep", "merged model", "model for Ollama"
LLAMA_SERVER = "folder for llama-server"
"""What a folder can hold. A command replaces only a folder of its own kind."""
_MOST_BYTES = 10_000_000
_MOST_NAMED = 5


@dataclass(frozen=True)
class Manifest:
    """The kind of a folder, and the files that lorita wrote there, by their paths within it."""

    kind: str
    files: frozenset[str]

    def save(self, folder: Path) -> None:
        """Write the list into the folder, complete or not at all."""
        values = {"format": FORMAT, "kind": self.kind, "files": sorted(self.files)}
        write_atomic(folder / MANIFEST, json.dumps(values, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """The list in a folder; None if it has none, ``OutputError`` if it is damaged."""
    path = folder / MANIFEST
    try:
        if path.is_symlink() or path.stat().st_size > _MOST_BYTES:
            raise ValueError("not a file that lorita wrote")
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError("not a list that this version of lorita reads")
        kind, files = values.get("kind"), values.get("files")
        if not isinstance(kind, str) or not isinstance(files, list):
            raise ValueError("no list of files")
        if wrong := [name for name in files if not _is_inside(name)]:
            raise ValueError(f"names {wrong[0]!r}")
        return Manifest(kind, frozenset(files))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise OutputError(
            f"{path}: damaged ({error})",
            hint="It says which files lorita wrote there. Choose another folder.",
        ) from None


def _is_inside(name: object) -> bool:
    if not isinstance(name, str) or not name or "\0" in name or "\\" in name:
        return False
    path = PurePosixPath(name)
    return (
        path.parts != () and not path.is_absolute() and ".." not in path.parts and str(path) == name
    )


def claim(folder: Path, names: Iterable[str], *, kind: str = RUN) -> None:
    """List ``names`` as lorita's, which are about to be written into ``folder``.

    What somebody else has put under one of them is renamed, with a ``LoritaWarning``.
    """
    known = read_manifest(folder) or Manifest(kind, frozenset())
    new = [name for name in names if name not in known.files]
    if not new:
        return
    for top in sorted({name.partition("/")[0] for name in new}):
        if os.path.lexists(folder / top) and not _lists(known.files, top):
            set_aside(folder / top)
    Manifest(known.kind, known.files | set(new)).save(folder)


def _lists(files: Collection[str], top: str) -> bool:
    return any(name == top or name.startswith(f"{top}/") for name in files)


def set_aside(path: Path) -> None:
    """Rename what lorita did not write, with a ``LoritaWarning``, to make room at ``path``."""
    numbers = iter(range(1, 10**6))
    free = (path.with_name(f"{path.name}.not-lorita-{n}") for n in numbers)
    aside = next(name for name in free if not os.path.lexists(name))
    path.rename(aside)
    text = f"{path}: was not written by lorita, so it is kept as {aside.name}"
    warnings.warn(text, LoritaWarning, stacklevel=3)


def strangers(folder: Path, known: Manifest | None) -> list[str]:
    """The names in a folder that are not lorita's, sorted; those in subfolders with their path."""
    files = known.files if known is not None else frozenset()
    return sorted(_strangers(folder, "", files))


def _strangers(folder: Path, prefix: str, files: Collection[str]) -> Iterator[str]:
    if not folder.is_dir():
        return
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        name = prefix + entry.name
        if not prefix and (entry.name in (MANIFEST, LOCK_FILE) or is_part(entry.name)):
            continue
        if entry.is_dir(follow_symlinks=False):
            if _lists(files, name) and name not in files:
                yield from _strangers(Path(entry.path), f"{name}/", files)
            else:
                yield f"{name}/"
        elif name not in files:
            yield name


def existing(folder: Path, known: Manifest) -> list[str]:
    """The listed files that are there."""
    return sorted(name for name in known.files if _real(folder, name))


def remove_listed(folder: Path, names: Iterable[str]) -> None:
    """Delete these listed files, and the subfolders that are empty then. Links are not followed."""
    parents: set[PurePosixPath] = set()
    for name in sorted(names):
        if _real(folder, name):
            (folder / name).unlink()
        parents |= {p for p in PurePosixPath(name).parents if p.parts}
    for parent in sorted(parents, key=lambda path: -len(path.parts)):
        if _real(folder, str(parent / "_"), itself=False):
            with suppress(OSError):
                (folder / parent).rmdir()


def _real(folder: Path, name: str, *, itself: bool = True) -> bool:
    """Whether the file is there (a link counts as one), in real subfolders of ``folder``."""
    above = [folder / parent for parent in PurePosixPath(name).parents if parent.parts]
    if any(parent.is_symlink() or not parent.is_dir() for parent in above):
        return False
    path = folder / name
    return not itself or path.is_symlink() or path.is_file()


def place(part: Path, folder: Path) -> None:
    """Move all files from ``part`` into ``folder``, where they are listed first."""
    names = [path.relative_to(part).as_posix() for path in part.rglob("*") if path.is_file()]
    claim(folder, names)
    for name in sorted(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (part / name).replace(folder / name)


def remove_folder(folder: Path, name: str) -> bool:
    """Delete a subfolder if lorita wrote all that is in it; returns whether it did."""
    known, path = read_manifest(folder), folder / name
    if known is None or path.is_symlink() or not _lists(known.files, name):
        return False
    if list(_strangers(path, f"{name}/", known.files)):
        return False
    # Renamed first, so that a half-removed folder is never taken for a whole one.
    part = new_part(path)
    path.rename(part / name)
    remove(part)
    left = frozenset(file for file in known.files if not file.startswith(f"{name}/"))
    Manifest(known.kind, left).save(folder)
    return True


def named(names: list[str]) -> str:
    """Some names for a message."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
