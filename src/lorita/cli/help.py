"""How the help of the command line is written."""

from __future__ import annotations

from importlib import import_module
from inspect import cleandoc
from typing import TYPE_CHECKING

from cyclopts.help import ColumnSpec, DefaultFormatter, HelpEntry

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

LONGEST_FLAG = 30
"""No flag is broken in two: at 80 columns cyclopts leaves 28 for names."""


def full_help(module: str) -> str:
    """The docstring of the command in ``module``, without the line breaks in its paragraphs."""
    paragraphs = cleandoc(import_module(module).command.__doc__).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def shown_default(value: object) -> str | None:
    """A default as YAML writes it; None for one that is not worth showing."""
    if value is None or value is False or value == []:
        return None
    if isinstance(value, float):
        return f"{value:g}"
    return "true" if value is True else str(value)


def whole_names(
    console: Console, options: ConsoleOptions, entries: list[HelpEntry]
) -> tuple[ColumnSpec, ...]:
    """The columns of an option panel, the one of names wide enough for every flag."""
    from cyclopts.help.specs import NameRenderer, get_default_parameter_columns

    *before, names, text = get_default_parameter_columns(console, options, entries)
    width = max(names.max_width or 0, LONGEST_FLAG)
    return (*before, names.copy(renderer=NameRenderer(width), max_width=width), text)


WHOLE_NAMES = DefaultFormatter(column_specs=whole_names)
