"""What a person asked for. What a settings file alone asks for is not that: it may come from
somebody else, with the folder it is in.

To run code (``map_row``, ``trust_remote_code``), to upload, and to replace a run, a settings file
is not enough. Each has to be typed, or passed in Python, once. Then it is remembered in
``storage.confirmed``, by hashes of

- the code: its path and its content, and for code of the hub, repository and commit;
- the settings file's content and where it leads: the repository, or the folder that is replaced.

The ``run.yaml`` that a run writes is remembered in the same way, so a run that was made here, by
this user, can be continued or repeated without being asked. Whatever changes is asked again.
"""

from __future__ import annotations

from pathlib import Path

from lorita.data.sources.map_row import MapRow, find_function
from lorita.data.sources.named_code import named_code
from lorita.errors import DataError, SettingsError
from lorita.models.base import Base, find_base
from lorita.models.base_code import base_code
from lorita.models.base_precision import with_precision
from lorita.settings.build import build_settings
from lorita.settings.file_wishes import FROM_FILE, FileWishes, file_wish
from lorita.settings.schema import RunSettings
from lorita.storage.confirmed import confirm, is_confirmed, mark
from lorita.storage.run_folder import SETTINGS_FILE, is_run

_TYPE_IT = "lorita remembers that, and asks again if the code changes."


def asked_function(settings: RunSettings) -> MapRow | None:
    """The function of ``map_row``, loaded; None without one.

    Raises ``SettingsError`` if only a settings file names its code, ``DataError`` if there is none.
    """
    name = settings.map_row
    if name is None:
        return None
    given: MapRow | None = settings.given("map_row")
    try:
        code = named_code(name)
    except DataError:
        if given is not None:  # a function of a notebook or a script
            return given
        raise
    parts = [part for file in code.files for part in (str(file.path), str(file))]
    line = mark("map_row", code.place if not code.is_file else "", code.function, *parts)
    file = file_wish(settings, "map_row")
    if file is None:
        confirm(line)
    elif not is_confirmed(line):
        shown = "".join(f"\n  {file}" for file in code.files) or f"\n  the module {code.place}"
        raise SettingsError(
            f"{file.path}: asks to run code that nobody has allowed (map_row: {name}):{shown}",
            hint=f"Read it first. To run it, type it: --map-row {name} (in Python: "
            f'map_row="{name}"). {_TYPE_IT}',
        )
    return given or find_function(name, code)


def asked_base(settings: RunSettings) -> Base:
    """The base of the settings; ``SettingsError`` if only a settings file trusts its code."""
    trust = settings.trust_remote_code
    base = find_base(settings.model, revision=settings.revision, trust_remote_code=trust)
    base = with_precision(base, settings.base_precision)
    code = base_code(base) if trust else None
    if code is None:
        return base
    line = mark("trust_remote_code", base.location, code.content)
    file = file_wish(settings, "trust_remote_code")
    if file is None:
        confirm(line)
    elif not is_confirmed(line):
        shown = "".join(f"\n  {what}" for what in code.files)
        raise SettingsError(
            f"{file.path}: asks to run code of the base {base.name} that nobody has allowed "
            f"(trust_remote_code):{shown}",
            hint="Read it first. To run it, type it: --trust-remote-code (in Python: "
            f"trust_remote_code=True). {_TYPE_IT}",
        )
    return base


def require_asked_upload(settings: RunSettings, folder: Path) -> None:
    """``SettingsError`` if only a settings file asks to upload the run in ``folder``, or where."""
    file: FileWishes | None = settings.given(FROM_FILE)
    if not settings.push_to_hub or file is None:
        return
    line = _upload_mark(settings, file, folder)
    alone = [name for name in ("push_to_hub", "hub_model_id") if file_wish(settings, name)]
    if not alone:
        confirm(line)
    elif not is_confirmed(line):
        target = settings.hub_model_id
        where = f"--hub-model-id {target}" if target else ""
        raise SettingsError(
            f"{file.path}: asks to upload the run to {target or f'{folder.name} in your account'}, "
            f"and nobody has allowed it ({', '.join(alone)})",
            hint=f"To upload it, type it: --push-to-hub {where}".rstrip()
            + "; otherwise --no-push-to-hub.",
        )


def require_asked_trackers(settings: RunSettings) -> None:
    """``SettingsError`` if only a settings file asks to send the run's figures to a tracker."""
    file = file_wish(settings, "report_to")
    line = _trackers_mark(settings)
    if file is None:
        confirm(line)
    elif not is_confirmed(line):
        names = ",".join(settings.report_to)
        raise SettingsError(
            f"{file.path}: asks to send the run's figures to {names}, and nobody has allowed it "
            "(report_to)",
            hint=f"To send them, type it: --report-to {names}; otherwise --report-to none.",
        )


def may_overwrite(settings: RunSettings, folder: Path) -> bool:
    """Whether a person asked to replace the run in ``folder``.

    ``SettingsError`` if there is one and only a settings file asks for it.
    """
    file: FileWishes | None = settings.given(FROM_FILE)
    if not settings.overwrite or file is None or not is_run(folder):
        return settings.overwrite
    line = _overwrite_mark(file, folder)
    if file_wish(settings, "overwrite") is None:
        confirm(line)
    elif not is_confirmed(line):
        raise SettingsError(
            f"{file.path}: asks to replace the run in {folder.absolute()}, and nobody has allowed "
            "it (overwrite)",
            hint="To replace it, type it: --overwrite. To keep it: --output-dir with another name.",
        )
    return True


def remember_own(settings: RunSettings, folder: Path) -> None:
    """Remember the ``run.yaml`` that was just written in ``folder``: it says what this user asked.

    Its code is remembered where it is run.
    """
    file: FileWishes = build_settings(folder / SETTINGS_FILE).given(FROM_FILE)
    if settings.push_to_hub:
        confirm(_upload_mark(settings, file, folder))
    if settings.overwrite:
        confirm(_overwrite_mark(file, folder))


def _upload_mark(settings: RunSettings, file: FileWishes, folder: Path) -> str:
    return mark("push_to_hub", file.digest, settings.hub_model_id or "", folder.name)


def _trackers_mark(settings: RunSettings) -> str:
    return mark("report_to", *sorted(settings.report_to))


def _overwrite_mark(file: FileWishes, folder: Path) -> str:
    return mark("overwrite", file.digest, str(folder.absolute()))
