"""Which files and hub data sets the user's ``--data`` names. Their content is not read here."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lorita.data.sources.file_content import by_content
from lorita.data.sources.folder_splits import of_configuration, of_split
from lorita.data.sources.open_file import (
    DESCRIPTIONS,
    DataFile,
    FileProblem,
    data_file,
    kind_of,
)
from lorita.data.sources.saved_datasets import is_saved
from lorita.data.sources.standard_input import NAME, copy_standard_input
from lorita.errors import DataError
from lorita.storage.links import leads_out
from lorita.storage.manifest import MANIFEST
from lorita.storage.names import is_path, meant
from lorita.storage.parts import Part

STANDARD_INPUT = "-"
NOT_DATA = re.compile(r"(README|LICEN[CS]E|CHANGELOG|CONTRIBUTING|NOTICE)\b.*", re.IGNORECASE)
"""Files that often accompany data in a folder and are not data themselves."""
SETTINGS = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "generation_config.json", "adapter_config.json", "package.json", "package-lock.json",
    "croissant.json",
)  # fmt: skip
"""JSON files that hold settings, in folders of models, programs and data sets."""
OUTPUTS = (MANIFEST, "adapter_config.json")
"""Files that make a folder a result of training; its JSON files are no rows."""
MOST_NOTES = 3
"""Skipped files named in a note; the others are counted."""


@dataclass
class Found:
    """The files, hub data sets and ``saved`` data sets to read.

    ``temporary`` is to be deleted after reading. ``name_used`` tells that the name the user gave
    has chosen a subset of a folder.
    """

    files: list[DataFile] = field(default_factory=list)
    hub: list[str] = field(default_factory=list)
    saved: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    temporary: list[Part] = field(default_factory=list)
    name_used: bool = False

    def clean(self) -> None:
        """Delete what is temporary; call it once it has been read."""
        for part in self.temporary:
            part.remove()


def find_data(
    items: Sequence[str], *, split: str, file_type: str | None, name: str | None = None
) -> Found:
    """Everything that ``items`` name: files, folders, patterns, ``-``, or hub data sets.

    ``split`` and ``name`` (a subset) choose files of folders that have such.
    Raises ``DataError`` listing every item that is missing, unreadable or of an unknown type.
    """
    found = Found()
    named = frozenset(Path(item).expanduser().absolute() for item in items)
    for item in items:
        path = Path(item).expanduser()
        try:
            if item == STANDARD_INPUT:
                _standard_input(found, file_type)
            elif path.is_dir() and is_saved(path):
                found.saved.append(path)
            elif path.is_dir():
                _folder(found, path, split, file_type, name, named)
            elif not path.exists() and glob.has_magic(item):
                _pattern(found, str(path), file_type, named)
            elif _is_hub_id(item) and not is_path(item):
                found.hub.append(item)
            else:
                found.files.append(_file(path, file_type))
        except FileProblem as problem:
            near = meant(item) if not path.exists() and not glob.has_magic(item) else None
            found.problems.append(f"{item}: {problem}" + (f". {near}" if near else ""))
        except OSError as error:
            found.problems.append(f"{item}: cannot be read ({error.strerror or error})")
    if found.problems:
        found.clean()
        raise DataError(found.problems)
    return found


def data_name(item: str) -> str:
    """A short name for one ``--data`` item, used to name the run folder."""
    if item == STANDARD_INPUT:
        return "stdin"
    parts = [part for part in Path(item).parts if not glob.has_magic(part)]
    name = Path(parts[-1]).name.split(".")[0] if parts else ""
    return name or "data"


def _file(path: Path, file_type: str | None) -> DataFile:
    return by_content(data_file(path, file_type), named=file_type is not None)


def _is_hub_id(item: str) -> bool:
    path = Path(item).expanduser()
    return (
        not path.exists()
        and kind_of(path) == (None, None)
        and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", item) is not None
    )


def _standard_input(found: Found, file_type: str | None) -> None:
    file, part = copy_standard_input(file_type)
    found.temporary.append(part)
    found.files.append(file)
    found.notes.append(f"{NAME} is read as {file.kind} (--file-type)")


def _pattern(found: Found, pattern: str, file_type: str | None, named: frozenset[Path]) -> None:
    paths = map(Path, sorted(glob.glob(pattern, recursive=True)))  # noqa: PTH207
    parts = Path(pattern).parts
    plain = Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])
    files = [path for path in paths if path.is_file() and not _is_output(path, plain)]
    if not files:
        raise FileProblem("no file matches this pattern")
    _take(found, _without_links_out(found, files, plain, named), file_type)


def _without_links_out(
    found: Found, paths: Sequence[Path], folder: Path, named: frozenset[Path]
) -> list[Path]:
    """The paths in ``folder``; a link that leads out of it is a problem, unless ``named`` has it.

    A folder from elsewhere could otherwise have any file of this machine read as its data. A link
    that the user named as well is read under its own name.
    """
    inside = []
    for path in paths:
        real = leads_out(path, folder)
        if real is None:
            inside.append(path)
        elif path.absolute() not in named:
            found.problems.append(
                f"{path}: a link that leads out of {folder}, to {real}; to read it, name it as "
                f"well (--data {path}), otherwise remove it"
            )
    return inside


def _take(found: Found, paths: Sequence[Path], file_type: str | None) -> None:
    for path in paths:
        try:
            found.files.append(_file(path, file_type))
        except FileProblem as problem:
            found.problems.append(f"{path}: {problem}")


def _folder(
    found: Found,
    folder: Path,
    split: str,
    file_type: str | None,
    name: str | None,
    named: frozenset[Path],
) -> None:
    """The data files in a folder; if their names indicate splits, only those of ``split``."""
    everything = [path for path in sorted(folder.rglob("*")) if _is_data(path, folder)]
    paths = [path for path in everything if path.is_file()]
    links = [path for path in everything if path.is_symlink() and not path.is_file()]
    known = [
        path
        for path in paths
        if (file_type or kind_of(path)[1]) and path.name not in (*DESCRIPTIONS, *SETTINGS)
    ]
    if not known:
        others = f" ({len(paths)} files of other types)" if paths else ""
        raise FileProblem(f"no data files in this folder{others}")
    patterns = of_configuration(folder, name)
    found.name_used = found.name_used or (name is not None and patterns is not None)
    taken = of_split(folder, known, split, patterns)
    if not taken:
        raise FileProblem(f"the files of the split {split!r} are not in this folder")
    if len(taken) < len(paths):
        left = [str(path.relative_to(folder)) for path in paths if path not in set(taken)]
        more = f" and {len(left) - MOST_NOTES} more" if len(left) > MOST_NOTES else ""
        found.notes.append(f"{folder}: skipped {', '.join(left[:MOST_NOTES])}{more}")
    for link in links[:MOST_NOTES]:
        what = "another folder" if link.is_dir() else "no file"
        found.notes.append(f"{link}: skipped, a link that leads to {what}")
    _take(found, _without_links_out(found, taken, folder, named), file_type)


def _is_data(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    hidden = any(part.startswith((".", "_")) for part in parts)
    return not hidden and not NOT_DATA.match(path.name) and not _is_output(path, folder)


def _is_output(path: Path, folder: Path) -> bool:
    """Whether a folder below ``folder`` that holds ``path`` is a run, or another result."""
    below = [parent for parent in path.parents if folder in parent.parents]
    return any((parent / mark).is_file() for parent in below for mark in OUTPUTS)
