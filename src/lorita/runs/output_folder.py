"""Which folder a run is written to, and whether it continues an existing run."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import Any

from lorita.data.sources.find_files import data_name
from lorita.errors import OutputError, SettingsError
from lorita.models.adapter_files import WEIGHTS_FILE
from lorita.runs.asked import may_overwrite
from lorita.settings.build import build_settings
from lorita.settings.facts import differences, options_where
from lorita.settings.file_wishes import file_wish
from lorita.settings.schema import RunSettings
from lorita.storage.run_folder import (
    SETTINGS_FILE,
    check_output_dir,
    check_resumable,
    list_checkpoints,
)
from lorita.storage.run_record import read_record
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
        as_begun(settings, folder)
        _check_begun_alike(settings, folder)
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


def finished(settings: RunSettings, folder: Path) -> bool:
    """Whether the run in ``folder`` is to be continued, but has come to its end."""
    # A run.yaml may hold the --overwrite and the checkpoint that the run was made with.
    asked = ("overwrite", "resume_from_checkpoint")
    anew = any(getattr(settings, name) and file_wish(settings, name) is None for name in asked)
    if not settings.resume or anew:
        return False
    record = read_record(folder) if (folder / SETTINGS_FILE).is_file() else None
    passed = record is not None and all(check.passed for check in record.checks)
    return passed and (folder / WEIGHTS_FILE).is_file() and not _other_run(settings, folder)


def unheeded(settings: RunSettings, folder: Path) -> list[str]:
    """The options that a finished run was given since, and that no longer matter to it."""
    before = build_settings(folder / SETTINGS_FILE)
    asked = {"resume", "output_dir", "overwrite"}
    return list(differences(before, kept_as(before, settings), asked))


def _other_run(settings: RunSettings, folder: Path) -> dict[str, tuple[Any, Any]]:
    """The options, those of reports aside, that the run in ``folder`` was begun with otherwise."""
    before = build_settings(folder / SETTINGS_FILE)
    return differences(before, kept_as(before, settings), options_where(group="Reports"))


def as_begun(settings: RunSettings, folder: Path) -> RunSettings:
    """The settings of a run that goes on: what was chosen when it was begun stays.

    ``SettingsError`` for a time budget that the run was begun without.
    """
    named = settings.resume_from_checkpoint
    begun = [folder] if named in (None, "last") else [Path(str(named)).expanduser().parent, folder]
    files = (place / SETTINGS_FILE for place in begun)
    file = next((file for file in files if file.is_file()), None)
    if resume_source(settings) is None or file is None:
        return settings
    before = build_settings(file)
    if settings.time_budget is not None and before.max_steps is None:
        raise SettingsError(
            f"{file.parent}: this run was begun without time_budget, and how long it lasts cannot "
            "be changed any more",
            hint="Continue it without --time-budget, or begin another: --output-dir.",
        )
    return kept_as(before, settings)


def kept_as(before: RunSettings, settings: RunSettings) -> RunSettings:
    """The settings with the values of ``before`` where lorita chooses and nobody else has.

    With a time budget, that is the number of steps, too.
    """
    open_now = [n for n in options_where(chosen=True) if getattr(settings, n) is None]
    found = {name: getattr(before, name) for name in open_now}
    if settings.time_budget is not None and before.max_steps is not None:
        found |= {"max_steps": before.max_steps, "time_budget": None}
        found["num_train_epochs"] = before.num_train_epochs
    return settings.model_copy(update=found)


def _check_begun_alike(settings: RunSettings, folder: Path) -> None:
    """``OutputError`` if a run without checkpoints would be made anew with other settings.

    What it is would no longer be what its files say. A checkpoint knows what it belongs to.
    """
    if resume_source(settings) != "last" or list_checkpoints(folder):
        return
    found = _other_run(settings, folder)
    if found:
        raise OutputError(
            [
                f"{folder}: this run was begun with {name} = {before}, now it is {now}"
                for name, (before, now) in found.items()
            ],
            hint="It has no checkpoint to continue from. Choose another --output-dir, or replace "
            "it with --overwrite instead of --resume.",
        )


def continues(settings: RunSettings, folder: Path) -> bool:
    """Whether a run in ``folder`` is to be continued; with --resume there may be none yet."""
    return resume_source(settings) is not None and (folder / SETTINGS_FILE).is_file()
