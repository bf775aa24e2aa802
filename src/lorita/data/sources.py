"""Where rows come from: files on this machine or a data set of the hub, read by ``datasets``.

Local files are looked through first, so that a mistake is named by its file and line. What the
columns mean is decided in ``formats.py``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita import hub
from lorita.data.checks import check_file
from lorita.errors import DataError
from lorita.quiet import quiet_libraries

if TYPE_CHECKING:
    from datasets import Dataset

READERS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".txt": "text",
}
"""File ending: the builder of ``datasets`` that reads it."""


@dataclass(frozen=True)
class Source:
    """Rows and where they come from (file names or hub id, for messages and the run's record)."""

    rows: Dataset
    origin: str

    @property
    def columns(self) -> list[str]:
        return list(self.rows.column_names)


def load_source(
    data: str | Sequence[str],
    *,
    name: str | None = None,
    split: str = "train",
    revision: str | None = None,
) -> Source:
    """All rows of one or more files, or of a split of one hub data set.

    Raises ``DataError`` that lists what is wrong with every file.
    """
    items = [data] if isinstance(data, str) else list(data)
    if len(items) == 1 and _is_hub_id(items[0]):
        return _from_hub(items[0], name, split, revision)
    files = [Path(item).expanduser() for item in items]
    problems = [problem for file in files for problem in check_file(file, READERS)]
    if problems:
        raise DataError(problems)
    return _from_files(files)


def _is_hub_id(item: str) -> bool:
    path = Path(item).expanduser()
    return (
        not path.exists()
        and path.suffix.lower() not in READERS
        and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", item) is not None
    )


def _from_files(files: Sequence[Path]) -> Source:
    from datasets import concatenate_datasets

    parts = [_read_file(file) for file in files]
    columns = parts[0].column_names
    for file, part in zip(files, parts, strict=True):
        if part.column_names != columns:
            raise DataError(
                f"{file}: its columns are {', '.join(part.column_names)}, "
                f"those of {files[0]} are {', '.join(columns)}",
                hint="Files of one data set need the same columns.",
            )
    rows = parts[0] if len(parts) == 1 else concatenate_datasets(parts)
    if not len(rows):
        raise DataError(f"{files[0]}: there are no rows in it")
    return Source(rows, ", ".join(str(file) for file in files))


def _read_file(file: Path) -> Dataset:
    from datasets import load_dataset

    kind = READERS[file.suffix.lower()]
    options = _csv_options(file) if kind == "csv" else {}
    with quiet_libraries():
        try:
            return load_dataset(kind, data_files=str(file), split="train", **options)
        except Exception as error:  # each reader behind `datasets` has errors of its own
            cause = error.__cause__ or error
            raise DataError(
                f"{file}: cannot be read as {kind}: {str(cause).strip().splitlines()[0]}"
            ) from error


def _csv_options(file: Path) -> dict[str, Any]:
    """Texts stay texts: ``1``, ``NA`` and nothing are what was written, not a number or a gap."""
    from datasets import Features, Value

    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    with file.open(encoding="utf-8-sig", newline="") as text:
        header = next(csv.reader(text, delimiter=separator))
    features = Features({name: Value("string") for name in header})
    return {"features": features, "keep_default_na": False, "sep": separator}


def _from_hub(hub_id: str, name: str | None, split: str, revision: str | None) -> Source:
    from datasets import load_dataset

    with quiet_libraries():
        try:
            rows = load_dataset(hub_id, name=name, split=split, revision=revision)
        except Exception as error:
            raise _hub_error(error, hub_id, split, revision) from error
    if not len(rows):
        raise DataError(f"{hub_id}: split {split!r} has no rows")
    return Source(rows, hub_id)


def _hub_error(error: Exception, hub_id: str, split: str, revision: str | None) -> Exception:
    """``datasets``' refusal in words; it wraps the hub's own errors in its own."""
    from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    if isinstance(error, DataFilesNotFoundError):
        return DataError(f"{hub_id}: the hub's repository holds no data files that can be read")
    if isinstance(error, DatasetNotFoundError):
        cause = error.__cause__ or error
        if isinstance(cause, (GatedRepoError, HfHubHTTPError)):
            return hub.explain(cause, hub_id, revision, DataError)
        return DataError(
            f"{hub_id}: there is neither a file nor a hub data set of this name",
            hint="Give a file, or check the spelling (owner/name).",
        )
    if isinstance(error, ValueError):  # an unknown split or configuration: the text lists them
        return DataError(f"{hub_id}: {str(error).strip().splitlines()[0]}")
    return hub.explain(error, hub_id, revision, DataError)
