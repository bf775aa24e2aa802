"""Folders written by ``save_to_disk`` of ``datasets``, and single Arrow files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from lorita.data.origin import Part
from lorita.data.sources.file_table import FileRows
from lorita.data.sources.hub_datasets import MEDIA
from lorita.data.sources.open_file import DataFile, FileProblem
from lorita.errors import DataError
from lorita.storage.links import leads_out
from lorita.storage.reading import plain_size, read_object
from lorita.system.quiet import quiet_libraries

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


def is_saved(folder: Path) -> bool:
    """Whether a folder was written by ``save_to_disk``, with one split or several."""
    one = all((folder / name).is_file() for name in ("state.json", "dataset_info.json"))
    return one or (folder / "dataset_dict.json").is_file()


def read_saved(folder: Path, split: str) -> FileRows:
    """The rows of a saved data set, memory-mapped; ``split`` if it has splits.

    Raises ``DataError`` if the folder is damaged, or has no such split.
    """
    from datasets import Dataset, load_from_disk

    _check_files(folder)
    _require_own_files(folder)
    try:
        with quiet_libraries():
            saved: Dataset | DatasetDict = load_from_disk(str(folder))
        for part in [saved] if isinstance(saved, Dataset) else saved.values():
            part.data.table.validate(full=True)  # Arrow follows the places in a file unchecked
    except Exception as error:  # whatever is behind `datasets` has its own errors
        what = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{folder}: this saved data set cannot be read ({what})") from error
    notes = []
    if isinstance(saved, Dataset):
        table = saved
    else:
        names = ", ".join(map(str, saved))
        if split not in saved:
            raise DataError(
                f"{folder}: no split {split!r} in this saved data set (found: {names})",
                hint="Name one with --data-split.",
            )
        table = saved[split]
        notes.append(f"{folder}: the split {split!r} of {names}")
    if not len(table):
        raise DataError(f"{folder}: the saved data set has no rows")
    media = [n for n, feature in table.features.items() if type(feature).__name__ in MEDIA]
    return FileRows(table.remove_columns(media), Part(str(folder), len(table)), notes=tuple(notes))


def _require_own_files(folder: Path) -> None:
    """``DataError`` if the files that describe a saved data set name others outside its folder."""
    for listing in (folder / "dataset_dict.json", *folder.rglob("state.json")):
        if not listing.is_file():
            continue
        try:
            values = json.loads(listing.read_bytes())
            files = [entry["filename"] for entry in values.get("_data_files", ())]
            splits = [(str(split), "state.json") for split in values.get("splits", ())]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise DataError(f"{listing}: damaged, so this data set cannot be read") from None
        for parts in [*splits, *((str(file),) for file in files), (listing.name,)]:
            path = listing.parent.joinpath(*parts)
            real = leads_out(path, folder)
            if real is not None:
                raise DataError(
                    f"{listing}: names a file outside this data set, {real}",
                    hint="Name that file itself (--data) to read it.",
                )


class SavedFile(BaseModel):
    """A file of a saved data set, which is in the same folder."""

    filename: str


class SavedState(BaseModel):
    """``state.json``: which files hold the rows."""

    model_config = ConfigDict(extra="allow")

    data_files: Annotated[list[SavedFile], Field(alias="_data_files")]


def _check_files(folder: Path) -> None:
    """``DataError`` if something in the folder is no file, or a state names files elsewhere."""
    for path in sorted(folder.rglob("*")):
        if not path.is_dir():
            plain_size(path, DataError)
        if path.name == "state.json":
            read_object(path, SavedState, DataError)


def read_arrow(file: DataFile) -> FileRows:
    """The table of an Arrow file, as a stream (what ``datasets`` writes) or with a footer.

    Raises ``FileProblem`` if it is damaged, compressed or without rows.
    """
    import pyarrow as pa
    from datasets import Dataset

    if file.packing is not None:
        raise FileProblem("a compressed Arrow file; decompress it first")
    try:
        with quiet_libraries():
            try:
                table = Dataset.from_file(str(file.path))
            except pa.ArrowInvalid:
                with pa.memory_map(str(file.path)) as source:
                    table = Dataset(pa.ipc.open_file(source).read_all())
            table.data.table.validate(full=True)
    except Exception as error:
        what = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FileProblem(f"cannot be read as Arrow; damaged or truncated ({what})") from error
    if not len(table):
        raise FileProblem("the file has no rows")
    return FileRows(table, Part(file.name, len(table)))
