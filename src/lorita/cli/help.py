"""How the help of the command line is written."""

from __future__ import annotations

from importlib import import_module
from inspect import cleandoc
from typing import TYPE_CHECKING

from cyclopts.help import ColumnSpec, DefaultFormatter, HelpEntry

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

LEFT = 20
"""Columns that descriptions keep, however long the flags are."""
INDENT = 2
"""Before a flag that is not the first of its option."""


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
    """The columns of an option panel, the one of names wide enough for every flag.

    By default cyclopts gives names a third of the screen, and breaks those that are longer.
    """
    from cyclopts.help.specs import NameRenderer, get_default_parameter_columns

    *before, names, text = get_default_parameter_columns(console, options, entries)
    flags = [name for entry in entries for name in (*entry.positive_names, *entry.negative_names)]
    longest = max(map(len, flags), default=0) + INDENT
    width = names.max_width or 0
    if longest > width and options.max_width - longest >= LEFT:
        width = longest
    return (*before, names.copy(renderer=NameRenderer(width), max_width=width), text)


WHOLE_NAMES = DefaultFormatter(column_specs=whole_names)
