"""What the user named as data: which files and hub data sets it means. Nothing is read here,
except standard input.
"""

from __future__ import annotations

import csv
import glob
import re
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from lorita.data.sources.csv_files import LONGEST_NAME, find_dialect
from lorita.data.sources.open_file import DataFile, FileProblem, data_file, kind_of, open_text
from lorita.data.sources.table_cache import cache_folder
from lorita.errors import DataError

STANDARD_INPUT = "-"
NOT_DATA = re.compile(r"(README|LICEN[CS]E|CHANGELOG|CONTRIBUTING|NOTICE)\b.*", re.IGNORECASE)
"""Names of files that stand beside data in a folder."""
MOST_NOTES = 3
SAMPLE = 2**16
"""Characters of standard input that tell what it is."""


@dataclass
class Found:
    """The files and hub data sets that are meant, and what there is to say about it."""

    files: list[DataFile] = field(default_factory=list)
    hub: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    temporary: list[Path] = field(default_factory=list)

    def clean(self) -> None:
        """Remove what was made to be read once."""
        for path in self.temporary:
            path.unlink(missing_ok=True)


def find_data(items: Sequence[str], *, split: str, file_type: str | None) -> Found:
    """All that ``items`` mean. ``DataError`` with everything that is not there or unknown."""
    found = Found()
    for item in items:
        path = Path(item).expanduser()
        try:
            if item == STANDARD_INPUT:
                _standard_input(found, file_type)
            elif path.is_dir():
                _folder(found, path, split, file_type)
            elif not path.exists() and glob.has_magic(item):
                _pattern(found, str(path), file_type)
            elif _is_hub_id(item):
                found.hub.append(item)
            else:
                found.files.append(data_file(path, file_type))
        except FileProblem as problem:
            found.problems.append(f"{item}: {problem}")
        except OSError as error:
            found.problems.append(f"{item}: cannot be read ({error.strerror or error})")
    if found.problems:
        found.clean()
        raise DataError(found.problems)
    return found


def data_name(item: str) -> str:
    """A short name for the data, for the run's folder."""
    if item == STANDARD_INPUT:
        return "stdin"
    parts = [part for part in Path(item).parts if not glob.has_magic(part)]
    name = Path(parts[-1]).name.split(".")[0] if parts else ""
    return name or "data"


def _is_hub_id(item: str) -> bool:
    path = Path(item).expanduser()
    return (
        not path.exists()
        and kind_of(path) == (None, None)
        and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", item) is not None
    )


def _pattern(found: Found, pattern: str, file_type: str | None) -> None:
    paths = map(Path, sorted(glob.glob(pattern, recursive=True)))  # noqa: PTH207
    files = [path for path in paths if path.is_file()]
    if not files:
        raise FileProblem("no file has a name like this")
    _take(found, files, file_type)


def _take(found: Found, paths: Sequence[Path], file_type: str | None) -> None:
    for path in paths:
        try:
            found.files.append(data_file(path, file_type))
        except FileProblem as problem:
            found.problems.append(f"{path}: {problem}")


def _folder(found: Found, folder: Path, split: str, file_type: str | None) -> None:
    """The data files in a folder; where their names say splits, those of ``split``."""
    paths = [
        path for path in sorted(folder.rglob("*")) if path.is_file() and _is_data(path, folder)
    ]
    known = [path for path in paths if file_type or kind_of(path)[1]]
    if not known:
        others = f"; there are {len(paths)} of other kinds" if paths else ""
        raise FileProblem(f"there is no data file in this folder{others}")
    taken = _of_split(folder, known, split)
    if len(taken) < len(paths):
        left = [str(path.relative_to(folder)) for path in paths if path not in set(taken)]
        more = f" and {len(left) - MOST_NOTES} more" if len(left) > MOST_NOTES else ""
        found.notes.append(f"{folder}: left out: {', '.join(left[:MOST_NOTES])}{more}")
    _take(found, taken, file_type)


def _is_data(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return not any(part.startswith((".", "_")) for part in parts) and not NOT_DATA.match(path.name)


def _of_split(folder: Path, files: Sequence[Path], split: str) -> list[Path]:
    """As ``datasets`` tells splits from names; all files where the names say none."""
    from datasets.data_files import EmptyDatasetError, get_data_patterns, resolve_pattern

    try:
        patterns = {str(name): globs for name, globs in get_data_patterns(str(folder)).items()}
    except EmptyDatasetError:
        return list(files)
    names = {name for name in patterns if name in ("train", "validation", "test")}
    if names <= {"train"} and split == "train":
        return list(files)
    if split not in patterns:
        raise FileProblem(
            f"no file of this folder is of the split {split!r} ({', '.join(patterns)})"
        )
    meant: set[Path] = set()
    for pattern in patterns[split]:
        with suppress(FileNotFoundError):
            meant |= {Path(str(path)) for path in resolve_pattern(pattern, str(folder))}
    return [file for file in files if file.absolute() in meant or file.resolve() in meant]


def _standard_input(found: Found, file_type: str | None) -> None:
    """Standard input as a file for as long as it is read, its kind told from its content."""
    if sys.stdin is None or sys.stdin.isatty():
        raise FileProblem("nothing is sent to standard input; write: some-command | lorita ...")
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="input-", delete=False) as copy:
        path = Path(copy.name)
        found.temporary.append(path)
        while chunk := sys.stdin.buffer.read(2**20):
            copy.write(chunk)
    if path.stat().st_size == 0:
        raise FileProblem("standard input is empty")
    with path.open("rb") as raw:
        start = raw.read(4)
    packing = next((name for magic, name in PACKED.items() if start.startswith(magic)), None)
    file = DataFile(path, "text", packing, "standard input")
    kind = file_type or ("parquet" if start == b"PAR1" else _told_from_content(file))
    found.files.append(replace(file, kind=kind))
    found.notes.append(f"standard input is read as {kind} (--file-type)")


PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


def _told_from_content(file: DataFile) -> str:
    """``json``, ``csv`` (rows as wide as a header of several columns), or ``text``."""
    with open_text(file) as text:
        sample = text.read(SAMPLE)
    if sample.lstrip().startswith(("{", "[")):
        return "json"
    dialect = find_dialect(sample.splitlines(keepends=True), ",")
    try:
        rows = [row for row in dialect.reader(iter(sample.splitlines(keepends=True))) if row]
    except csv.Error:
        return "text"
    even = len(rows) > 1 and len(rows[0]) > 1 and len({len(row) for row in rows[:-1]}) == 1
    return "csv" if even and all(len(name) < LONGEST_NAME for name in rows[0]) else "text"
