"""What was asked for in the form: as options, as the command and as the file that mean the same."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lorita.errors import SettingsError
from lorita.settings.build import build_settings, option_name, parse_yaml, suggestion, to_yaml
from lorita.settings.facts import facts
from lorita.settings.schema import RunSettings
from lorita.settings.types import is_switch
from lorita.studio.words import Told
from lorita.studio.workspace import Workspace

FIRST = ("time_budget", "num_train_epochs", "r", "learning_rate")
MORE = ("lora_alpha", "max_steps", "per_device_train_batch_size", "max_length", "seed")
FIELDS = (*FIRST, *MORE)
"""Options that have a field of their own; all others are lines in the field ``others``."""
FORM = ("model", "name", *FIELDS, "others")
_KEPT = ("output_dir", "overwrite", "resume", "resume_from_checkpoint", "data")
_COMMAND_ONLY = ("trust_remote_code", "map_row", "push_to_hub", "hub_model_id", "report_to")
"""Options that run code or send something away: whoever reaches the page must not be able to."""
_COMMA = re.compile(r"\d+,\d+")


@dataclass(frozen=True)
class Wish:
    """A run as asked for: the options that were given, and the settings they make."""

    options: dict[str, Any]
    settings: RunSettings

    def arguments(self) -> list[str]:
        """The arguments of ``lorita train`` for this run."""
        return ["train", *flags(self.options)]

    def command(self) -> str:
        """The command for a shell."""
        return shlex.join(["lorita", *self.arguments()])

    def yaml(self) -> str:
        """All settings as the content of a ``run.yaml``."""
        return to_yaml(self.settings)


def read_wish(
    workspace: Workspace, data: str, form: Mapping[str, str], *, decimal: str = "."
) -> Wish:
    """The run that the form asks for. ``Told`` or ``UserError`` for what cannot be.

    ``decimal`` is how the page writes numbers: a comma in a field is understood accordingly.
    """
    options = read_options(data, form, decimal=decimal)
    options["output_dir"] = str(workspace.new_run((form.get("name") or "").strip()))
    return Wish(options, build_settings(**options))


def read_options(data: str, form: Mapping[str, str], *, decimal: str = ".") -> dict[str, Any]:
    """The options that the form gives, but the folder of the run; ``Told`` as above."""
    if not data:
        raise Told("no_data")
    if not (form.get("model") or "").strip():
        raise Told("no_model")
    options: dict[str, Any] = {"model": form["model"].strip(), "data": [data]}
    for name in FIELDS:
        text = (form.get(name) or "").strip()
        if text:
            is_comma = decimal == "," and _COMMA.fullmatch(text)
            options[name] = text.replace(",", ".") if is_comma else text
    return {**options, **_others(form.get("others") or "")}


def _others(text: str) -> dict[str, Any]:
    """The options in lines such as ``use_dora: true``."""
    try:
        values = parse_yaml(text, "others")
    except SettingsError as error:
        raise Told("others_not_lines", detail=error.problems[0]) from error
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = option_name(str(key))
        if name is None:
            raise SettingsError(f"unknown option {str(key)!r}{suggestion(str(key))}")
        if name in FIELDS or name == "model":
            raise Told("own_field", name=name)
        if name in _KEPT:
            raise Told("kept_by_page", name=name)
        if name in _COMMAND_ONLY:
            raise Told("command_only", name=name)
        if value is not None:
            found[name] = value
    return found


def flags(options: Mapping[str, Any]) -> list[str]:
    """The options as flags of the command line."""
    found: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if is_switch(RunSettings.model_fields[name].annotation):
            found.append(flag if _is_on(value) else f"--no-{flag[2:]}")
        elif isinstance(value, (list, tuple)) and facts(name).repeatable:
            for each in value:
                found += _pair(flag, _written(each))
        else:
            found += _pair(flag, _written(value))
    return found


def _written(value: Any) -> str:
    """A value as it is typed on the command line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(map(_written, value))
    if isinstance(value, Mapping):
        return ",".join(f"{key}={_written(each)}" for key, each in value.items())
    return str(value)


def _pair(flag: str, value: str) -> list[str]:
    """A value that looks like a flag itself is joined to its own."""
    return [f"{flag}={value}"] if value.startswith("-") or not value else [flag, value]


def _is_on(value: Any) -> bool:
    """A value that the settings have accepted as true or false."""
    return str(value).lower() in ("true", "yes", "on", "1", "1.0", "t", "y")
