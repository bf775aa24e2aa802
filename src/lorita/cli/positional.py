"""What stands on the command line without a flag: a settings file, a run, the model, the data.

What is here is recognised by its form: a YAML file, a run folder, a model, data. A name that could
be on the hub is whatever is still missing, the model before the data. Where that does not decide,
``SettingsError`` asks for the flag.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from lorita.cli.options import is_settings, settings_file
from lorita.errors import SettingsError
from lorita.storage.names import is_path, meant

Kind = Literal["settings", "model", "data", "name"]
Targets = Annotated[
    str,
    Parameter(
        help="Model and data, or a settings file (run.yaml) or run folder. Flags override a file."
    ),
]
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")
_MODEL_FILES = ("adapter_config.json", "tokenizer.json", "*.safetensors", "*.gguf")
_TABLES = {"csv", "tsv", "parquet", "arrow", "sheet"}


def read_targets(
    targets: Sequence[str], options: dict[str, Any], *, first: Literal["model", "data"] = "model"
) -> Path | None:
    """The settings file among ``targets``; the model and the data go into ``options``.

    ``first`` is what a single hub name means where neither is given. Raises ``SettingsError`` for a
    target that does not exist, is given twice or could be either.
    """
    kinds = [(target, _kind(target, first)) for target in targets]
    files = [target for target, kind in kinds if kind == "settings"]
    if len(files) > 1:
        raise SettingsError(f"{files[0]} and {files[1]}: only one settings file or run is used")
    _require_here([target for target, kind in kinds if kind == "name"], options)
    for target, kind in kinds:
        if kind == "model":
            _set_model(target, options)
        elif kind == "data":
            options["data"] = [*options.get("data", []), target]
    names = [target for target, kind in kinds if kind == "name"]
    if names and files:
        raise SettingsError(
            f"{names[0]}: is this the model or the data?",
            hint=f"{files[0]} has both already; name the one to replace: --model or --data.",
        )
    _set_names(names, options, first)
    return settings_file(files[0]) if files else None


def _kind(target: str, first: Literal["model", "data"]) -> Kind:
    """What a target is, as far as its name and what lies under it tell; an empty folder is what is
    expected ``first``."""
    from lorita.data.sources.open_file import KINDS, PACKINGS, UNREAD
    from lorita.models.base import BUNDLED
    from lorita.models.ollama_store import PREFIX

    path = Path(target).expanduser()
    if is_settings(target):
        return "settings"
    if target in BUNDLED or target.startswith(PREFIX) or path.suffix.lower() == ".gguf":
        return "model"
    if path.is_dir():
        if not any(path.iterdir()):
            return first
        return "model" if _looks_like_model(path) else "data"
    endings = {*KINDS, *PACKINGS, *UNREAD}
    if path.exists() or set("*?[") & set(target) or path.suffix.lower() in endings:
        return "data"
    return "data" if target == "-" else "name"


def _looks_like_model(folder: Path) -> bool:
    """Also one that is incomplete: the message about a model then says what is missing."""
    from lorita.data.sources.open_file import KINDS

    if any(any(folder.glob(name)) for name in _MODEL_FILES):
        return True
    # A data set may have a config.json as well, beside its tables.
    tables = any(KINDS.get(file.suffix.lower()) in _TABLES for file in folder.iterdir())
    return (folder / "config.json").is_file() and not tables


def _require_here(names: Sequence[str], options: dict[str, Any]) -> None:
    """``SettingsError`` for names that can only be places on this machine, where nothing is."""
    resumed = options.get("resume") or "resume_from_checkpoint" in options
    missing = [
        name
        for name in names
        if resumed or is_path(name) or not _HUB_ID.fullmatch(name) or _beside_files(name)
    ]
    if missing:
        what = "run folder" if resumed else "file or folder"
        hint = next(filter(None, map(meant, missing)), None)
        raise SettingsError([f"{name}: no such {what}" for name in missing], hint=hint)


def _beside_files(name: str) -> bool:
    return "/" in name and Path(name).parent.is_dir()


def _set_model(target: str, options: dict[str, Any]) -> None:
    if "model" in options:
        raise SettingsError(f"the model is given twice: {target} and {options['model']}")
    options["model"] = target


def _set_names(names: Sequence[str], options: dict[str, Any], first: str) -> None:
    """Hub names: whatever is missing; where both are, ``first``, or the model before the data."""
    if len(names) == 1 and first == "data" and not {"model", "data"} & options.keys():
        options["data"] = list(names)
        return
    for name in names:
        if "model" not in options:
            options["model"] = name
        elif "data" not in options:
            options["data"] = [name]
        else:
            raise SettingsError(
                f"{name}: the model ({options['model']}) and the data "
                f"({', '.join(options['data'])}) are given already",
                hint="Several data sets are given with several --data.",
            )
