"""Where a merge or an export is written: a new file or folder that appears when it is complete.

A target is prepared in a private folder beside it, under a lock that names the process. What is
there already is only replaced on demand, and only if it is a file of the same type, or a folder in
which lorita wrote everything. What killed processes left is cleaned up when the next one starts.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lorita.errors import OutputError
from lorita.storage.disk import remove, sync
from lorita.storage.files import check_parent, make_folders, remove_empty, short_name
from lorita.storage.locks import hold, if_free, require_free
from lorita.storage.manifest import Manifest, named, read_manifest, strangers

PART = ".lorita-target.part"
"""The ending of the folder in which a target is prepared: ``.NAME.RANDOM`` before it."""
_PART_NAME = re.compile(r"\.(.+)\.[a-z0-9_]{8}" + re.escape(PART), re.DOTALL)
_NEW, _OLD = "new", "old"
_ADVICE = "Wait for it to end, or choose another name."


@dataclass(frozen=True)
class Target:
    """A file or folder to write. ``kind`` is what a folder holds (``manifest.MODEL``, …), None for
    a file, which begins with ``magic``. ``overwrite`` allows to replace another of the same kind.
    """

    path: Path
    overwrite: bool = False
    kind: str | None = None
    magic: bytes = b""

    @property
    def lock(self) -> Path:
        """The lock file of this target."""
        return self.path.with_name(_lock_name(short_name(self.path)))


def check_target(target: Target) -> None:
    """``OutputError`` unless the target can be written; creates nothing."""
    path = target.path
    if path.name in ("", ".."):
        raise OutputError(f"{path}: not a name for something new", hint="Choose another name.")
    check_parent(path)
    require_free(target.lock, path, advice=_ADVICE)
    _check_replaceable(target)


def _check_replaceable(target: Target) -> None:
    """``OutputError`` if something is there that must not be replaced."""
    path = target.path
    if path.is_symlink():
        raise OutputError(
            f"{path}: a symbolic link, and nothing is written through it",
            hint="Choose another name, or name what it points to.",
        )
    if not path.exists():
        return
    if target.kind is None and not path.is_file():
        what = "a folder" if path.is_dir() else "not a plain file"
        raise OutputError(
            f"{path}: {what}, and it is not replaced by a file", hint="Name the file to write."
        )
    if target.kind is not None and not path.is_dir():
        raise OutputError(
            f"{path}: a file, and it is not replaced by a folder", hint="Name the folder to write."
        )
    if not target.overwrite:
        raise OutputError(
            f"{path}: already exists", hint="Choose another name, or replace it with --overwrite."
        )
    if target.kind is None:
        _check_file(path, target.magic)
    else:
        _check_folder(path, target.kind)


def _check_file(path: Path, magic: bytes) -> None:
    """``OutputError`` unless the file at ``path`` may be replaced."""
    with path.open("rb") as file:
        if file.read(len(magic)) not in (magic, b""):
            raise OutputError(
                f"{path}: a file of another type, which is not replaced",
                hint="Choose another name.",
            )
    known = read_manifest(path.parent)
    if known is not None and path.name in known.files:
        raise OutputError(f"{path}: belongs to the {known.kind} in {path.parent}, and stays")


def _check_folder(path: Path, kind: str) -> None:
    """``OutputError`` unless the folder at ``path`` may be replaced by another of its kind."""
    hint = "Choose another name."
    known = read_manifest(path)
    if known is not None and known.kind != kind:
        raise OutputError(
            f"{path}: holds a {known.kind}, so it is not replaced even with --overwrite", hint=hint
        )
    others = strangers(path, known)
    if others:
        raise OutputError(
            f"{path}: holds what lorita did not write there, so it is not replaced even with "
            f"--overwrite: {named(others)}",
            hint=hint,
        )


@contextmanager
def replacing(target: Target) -> Iterator[Path]:
    """A temporary path for the file or folder, renamed to its own on success.

    What is there stays until then. A folder gets the list of its files. Raises ``OutputError`` if
    it cannot be written, or if ``check_target`` would refuse it by now.
    """
    path = target.path
    made: list[Path] = []
    try:
        made = make_folders(path.parent)
        with hold(target.lock, path, advice=_ADVICE):
            clean_targets(path.parent, held=path)
            _check_replaceable(target)
            prefix = f".{short_name(path)}."
            part = Path(tempfile.mkdtemp(dir=path.parent, prefix=prefix, suffix=PART))
            try:
                (part / _NEW).mkdir()
                yield part / _NEW / path.name
                _finish(part, target)
            finally:
                remove(part)
    except OSError as error:
        if error.filename is not None and not str(error.filename).startswith(str(path.parent)):
            raise  # another file could not be read
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error})",
            hint="No incomplete file was left under this name.",
        ) from error
    finally:
        remove_empty(made)


def _finish(part: Path, target: Target) -> None:
    """Rename what was written; an existing folder moves aside first."""
    path, new, old = target.path, part / _NEW / target.path.name, part / _OLD / target.path.name
    if target.kind is not None:
        files = (file for file in new.rglob("*") if not file.is_dir())
        names = frozenset(file.relative_to(new).as_posix() for file in files)
        Manifest(target.kind, names).save(new)
    if path.is_dir():
        old.parent.mkdir()
        path.rename(old)
    try:
        new.replace(path)
    except OSError:
        if old.is_dir():
            old.rename(path)
        raise
    sync(path.parent)


def clean_targets(folder: Path, *, held: Path | None = None) -> None:
    """Delete what killed merges and exports have left in ``folder``.

    A part whose lock is free belongs to a process that is gone; the lock of ``held`` is the
    caller's. A folder that a killed process had moved aside goes back to its place.
    """
    for part in sorted(folder.iterdir()):
        if (found := _PART_NAME.fullmatch(part.name)) is None or part.is_symlink():
            continue
        if held is not None and found[1] == short_name(held):
            _clean(part)
            continue
        with if_free(folder / _lock_name(found[1])) as free:
            if free:
                _clean(part)


def _clean(part: Path) -> None:
    with suppress(OSError):
        for old in (part / _OLD).iterdir():
            if not os.path.lexists(part.parent / old.name):
                old.rename(part.parent / old.name)
    remove(part)


def _lock_name(short: str) -> str:
    return f".{short}.lorita-lock"


def require_apart(
    path: Path, sources: Iterable[tuple[str, Path]], *, inside: bool = True, advice: str
) -> None:
    """``OutputError`` if writing to ``path`` could change one of the sources (role and path).

    It must not be the source nor contain it; where ``inside`` is not allowed, it must not lie in
    a source that is a folder either. Symbolic links are resolved.
    """
    out = path.resolve()
    for role, source in sources:
        if not source.exists():
            continue
        real = source.resolve()
        if out == real:
            how = "is"
        elif out in real.parents:
            how = "contains"
        elif real in out.parents and not inside:
            how = "lies inside"
        else:
            continue
        raise OutputError(f"{path}: {how} {role} ({source})", hint=advice)
