"""Reading and writing ``RunSettings``: keyword arguments and YAML in, YAML out.

All mistakes are collected and raised in one error that people can read.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lorita.errors import SettingsError
from lorita.settings.aliases import ALIASES
from lorita.settings.facts import facts
from lorita.settings.file_wishes import FROM_FILE, FileWishes, digest_of
from lorita.settings.schema import RunSettings

LONGEST_FILE = 2**20
"""Bytes of a settings file; those that lorita writes have some thousands."""
ROWS_NAME = "python-rows"
"""Takes the place of a file name when Python code passes the rows themselves."""


def build_settings(config: str | Path | None = None, /, **options: Any) -> RunSettings:
    """Settings from a YAML file, keyword arguments, or both; arguments override the file.

    They remember what only the file asks for (``file_wish``): it may be somebody else's. Raises
    ``SettingsError`` with every unknown key and every invalid value.
    """
    given: dict[str, Any] = {}
    problems: list[str] = []
    objects, options = _without_objects(options)
    for source, values in ((str(config), read_yaml(config) if config else {}), ("", options)):
        known, unknown = _canonical(values, source)
        if config and source:
            objects[FROM_FILE] = FileWishes(Path(config), digest_of(known), frozenset(known))
        elif config:
            objects[FROM_FILE] = objects[FROM_FILE].without(known)
        given.update(known)
        problems += unknown
    settings, invalid = _validate(given)
    problems += invalid
    if settings is None or problems:
        raise SettingsError(problems)
    settings.hold(objects)
    return settings


def _is_rows(value: object) -> bool:
    """Whether a value is the rows themselves, not names: dicts, columns, or a library's table."""
    if isinstance(value, (list, tuple)):
        return bool(value) and isinstance(value[0], (Mapping, list, tuple))
    table = hasattr(value, "column_names") or hasattr(value, "columns")
    return isinstance(value, Mapping) or table


def _without_objects(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rows and functions that Python code passed, and the options with names in their place."""
    objects: dict[str, Any] = {}
    named = dict(options)
    for key, value in options.items():
        name = option_name(key)
        if name in ("data", "eval_data") and _is_rows(value):
            objects[name], named[key] = value, ROWS_NAME
        elif name == "map_row" and callable(value):
            objects[name] = value
            named[key] = f"{value.__module__}:{getattr(value, '__qualname__', 'function')}"
    return objects, named


def _validate(given: dict[str, Any]) -> tuple[RunSettings | None, list[str]]:
    try:
        return RunSettings(**given), []
    except ValidationError as error:
        return None, list(dict.fromkeys(_in_words(e) for e in error.errors()))


def _canonical(values: Mapping[str, Any], source: str) -> tuple[dict[str, Any], list[str]]:
    """Known options under their own names, and a line for each unknown or duplicate one."""
    known: dict[str, Any] = {}
    problems = []
    where = f"{source}: " if source else ""
    for key, value in values.items():
        name = option_name(str(key))
        if name is None:
            problems.append(f"{where}unknown option {key!r}{suggestion(str(key))}")
        elif name in known:
            problems.append(f"{where}{name} is given twice, once as {key!r}")
        else:
            known[name] = _without_paths(value)
    return known, problems


def _without_paths(value: Any) -> Any:
    """A ``Path`` as text, by itself or in a list: Python code passes either."""
    if isinstance(value, (list, tuple)):
        return [_without_paths(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def option_name(key: str) -> str | None:
    """The option that a key, an alias or a flag means; None if there is none."""
    name = key.strip("-").replace("-", "_")
    name = ALIASES.get(name, name)
    return name if name in RunSettings.model_fields else None


def suggestion(key: str) -> str:
    """`` (did you mean …?)`` for the closest option, or nothing."""
    names = [*RunSettings.model_fields, *ALIASES]
    near = difflib.get_close_matches(key.strip("-").replace("-", "_"), names, n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _in_words(error: Any) -> str:
    location = [str(part) for part in error["loc"]]
    name = location[0] if location else ""
    if error["type"] == "missing":
        return f"{name} is missing: {RunSettings.model_fields[name].description}"
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if not name:
        return message
    found = repr(error["input"])
    return f"{name} = {found if len(found) <= 60 else found[:57] + '...'}: {message}"


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file; ``SettingsError`` names the line that cannot be parsed."""
    try:
        text = _settings_text(Path(path))
    except FileNotFoundError:
        raise SettingsError(f"{path}: settings file not found") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot read this settings file ({error})") from None
    return parse_yaml(text, path)


def parse_yaml(text: str, path: str | Path) -> dict[str, Any]:
    """The mapping in the text of a settings file; ``path`` is its name in messages."""
    import yaml

    try:
        values = yaml.load(text, Loader=_loader())
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise SettingsError(f"{path}: not valid YAML: nested too deeply") from None
    except SettingsError:
        raise
    except Exception as error:  # PyYAML's constructors of numbers and dates check nothing
        raise SettingsError(
            f"{path}: not valid YAML: a value that cannot be read ({type(error).__name__}: {error})"
        ) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(
            f"{path}: expected lines of `option: value`, found a {type(values).__name__}"
        )
    return values


def _settings_text(path: Path) -> str:
    """The text of a settings file; ``SettingsError`` for what is none or is much too long."""
    # The shell's own pipes, <(…), are in /dev; at any other, reading would wait for its other end.
    pipe = path.is_fifo() and str(path).startswith(("/dev/", "/proc/"))
    if path.exists() and not path.is_file() and not pipe:
        raise SettingsError(f"{path}: not a file, so not a settings file")
    with path.open("rb") as file:
        content = file.read(LONGEST_FILE + 1)
    if len(content) > LONGEST_FILE:
        raise SettingsError(
            f"{path}: longer than {LONGEST_FILE // 2**20} MB, too long for a settings file"
        )
    return content.decode("utf-8")


def _loader() -> Any:
    """YAML's safe loader, changed to refuse duplicate keys and to read 3e-2 as a number.

    Aliases are refused: a few lines of them can stand for billions of values.
    """
    import re

    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
                problem = "aliases (*name) are not allowed; write the value itself"
                raise yaml.constructor.ConstructorError(None, None, problem, mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            doubled = sorted(name for name, count in Counter(map(str, keys)).items() if count > 1)
            if doubled:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{', '.join(doubled)} is given twice", node.start_mark
                )
            return super().construct_mapping(node, deep)

    # YAML 1.1 requires the dot in 3.0e-2; people write 3e-2.
    number = re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    return Loader


def to_yaml(settings: RunSettings) -> str:
    """The settings as YAML, a comment above each group; ``build_settings`` reads it back."""
    import yaml

    values = settings.model_dump(mode="json")
    lines: list[str] = []
    heading = None
    for name in RunSettings.model_fields:
        group = facts(name).group
        if group != heading:
            lines += ["", f"# {group}"] if lines else [f"# {group}"]
            heading = group
        value = yaml.safe_dump(
            values[name], allow_unicode=True, default_flow_style=True, width=10**6
        )
        lines.append(f"{name}: {value.removesuffix('...' + chr(10)).strip()}")
    return "\n".join(lines) + "\n"
