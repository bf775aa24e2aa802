"""Which folder a run is written to, and whether it continues an existing run."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from lorita.data.sources.find_files import data_name
from lorita.errors import OutputError
from lorita.runs.asked import may_overwrite
from lorita.settings.schema import RunSettings
from lorita.storage.run_folder import SETTINGS_FILE, check_output_dir, check_resumable
from lorita.storage.targets import require_apart


def default_output_dir(settings: RunSettings) -> Path:
    """``output_dir``, or ``runs/`` and the name of the data."""
    if settings.output_dir is not None:
        return settings.output_dir.expanduser()
    name = data_name(settings.data[0])
    return Path("runs") / re.sub(r"[\ud800-\udfff]", "_", name)  # bytes that are not UTF-8


def check_folder(settings: RunSettings, folder: Path) -> None:
    """``OutputError`` unless the run can be written to ``folder``. Nothing is created."""
    require_readable_name(folder)
    if continues(settings, folder):
        check_resumable(folder)
    else:
        check_apart(settings, folder)
        check_output_dir(folder, overwrite=may_overwrite(settings, folder))


def check_apart(settings: RunSettings, folder: Path) -> None:
    """``OutputError`` if writing to ``folder`` could change the base or the data.

    A run may lie inside a folder of data: what lorita wrote is never read as data.
    """
    model = Path(settings.model).expanduser()
    base = [("the base model", model)]
    require_apart(folder, base, inside=False, advice="Choose an --output-dir outside it.")
    data: list[tuple[str, Path]] = []
    for item in [*settings.data, *([settings.eval_data] if settings.eval_data else [])]:
        path = Path(item).expanduser()
        found = [str(path)] if path.exists() else glob.glob(str(path), recursive=True)  # noqa: PTH207
        data += [("the data", Path(name)) for name in found]
    require_apart(folder, data, advice="Choose another --output-dir.")


def require_readable_name(folder: Path) -> None:
    """``OutputError`` if tokenizers could not be read from a folder of this name."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise OutputError(
            f"{folder}: the name is not UTF-8, and tokenizers cannot be saved under such a name",
            hint="Choose another --output-dir.",
        ) from None


def resume_source(settings: RunSettings) -> str | None:
    """``last`` or the path of the checkpoint to continue from; None for a new run."""
    return settings.resume_from_checkpoint or ("last" if settings.resume else None)


def continues(settings: RunSettings, folder: Path) -> bool:
    """Whether a run in ``folder`` is to be continued; with --resume there may be none yet."""
    return resume_source(settings) is not None and (folder / SETTINGS_FILE).is_file()
