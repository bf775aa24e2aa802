"""Hub data sets, read by ``datasets``: downloaded once, or only the first rows streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lorita.data.origin import Part
from lorita.data.sources.file_table import FileRows
from lorita.errors import DataError
from lorita.storage import hub, names
from lorita.storage.connection import find_hub
from lorita.system.quiet import quiet_libraries

if TYPE_CHECKING:
    from datasets import Dataset

MEDIA = ("Image", "Audio", "Video", "Pdf", "Nifti")
"""Columns of these types are dropped: they hold no text, and reading them needs more libraries."""


def read_hub(
    hub_id: str, name: str | None, split: str, revision: str | None, streaming: int | None = None
) -> FileRows:
    """A split of a hub data set, or its first ``streaming`` rows without downloading the rest.

    ``name`` is the configuration. Raises ``DataError`` whatever the hub or ``datasets`` raised.
    """
    find_hub()
    with quiet_libraries():
        try:
            rows = _load(hub_id, name, split, revision, streaming)
        except Exception as error:
            raise _hub_error(error, hub_id, split, revision) from error
    if not len(rows):
        raise DataError(f"{hub_id}: split {split!r} has no rows")
    media = [n for n, feature in rows.features.items() if type(feature).__name__ in MEDIA]
    notes = (f"{hub_id}: the first {len(rows)} rows, streamed",) if streaming else ()
    return FileRows(rows.remove_columns(media), Part(hub_id, len(rows)), notes=notes)


def _load(
    hub_id: str, name: str | None, split: str, revision: str | None, streaming: int | None
) -> Dataset:
    from datasets import Dataset, load_dataset

    where: dict[str, Any] = {"name": name, "split": split, "revision": revision}
    if streaming is None:
        return load_dataset(hub_id, **where)
    stream = load_dataset(hub_id, streaming=True, **where).take(streaming)
    return Dataset.from_list(list(stream), features=stream.features)


def _hub_error(error: Exception, hub_id: str, split: str, revision: str | None) -> Exception:
    """An error of ``datasets``, which also wraps those of the hub, as a clear message."""
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    if isinstance(error, (DataFilesNotFoundError, EmptyDatasetError)):
        return DataError(f"{hub_id}: the hub repository has no readable data files")
    if isinstance(error, DatasetNotFoundError):
        cause = error.__cause__ or error
        if isinstance(cause, (GatedRepoError, HfHubHTTPError)):
            return hub.explain(cause, hub_id, revision, DataError)
        return DataError(
            f"{hub_id}: no file or hub data set with this name",
            hint=names.hint(hub_id, "Check the spelling (owner/name), or give a file."),
        )
    if isinstance(error, ValueError):  # an unknown split or configuration: the text lists them
        return DataError(f"{hub_id}: {str(error).strip().splitlines()[0]}")
    return hub.explain(error, hub_id, revision, DataError)
