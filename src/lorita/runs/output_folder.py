"""Which folder a run is written to, and whether it continues an existing run."""

from __future__ import annotations

from pathlib import Path

from lorita.data.sources.find_files import data_name
from lorita.settings.schema import RunSettings
from lorita.storage.run_folder import SETTINGS_FILE


def default_output_dir(settings: RunSettings) -> Path:
    """``output_dir``, or ``runs/`` and the name of the data."""
    if settings.output_dir is not None:
        return settings.output_dir.expanduser()
    return Path("runs") / data_name(settings.data[0])


def resume_source(settings: RunSettings) -> str | None:
    """``last`` or the path of the checkpoint to continue from; None for a new run."""
    return settings.resume_from_checkpoint or ("last" if settings.resume else None)


def continues(settings: RunSettings, folder: Path) -> bool:
    """Whether a run in ``folder`` is to be continued; with --resume there may be none yet."""
    return resume_source(settings) is not None and (folder / SETTINGS_FILE).is_file()
