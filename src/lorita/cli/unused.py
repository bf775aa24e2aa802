"""Flags of a command that do nothing beside others: said in one line each."""

from __future__ import annotations

import sys
from collections.abc import Collection


def say_unused(given: Collection[str], why: str) -> None:
    """A warning on stderr that names the flags in ``given``, options by name; none without any."""
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        verb = "does" if len(given) == 1 else "do"
        print(f"Warning: {flags} {verb} nothing {why}", file=sys.stderr)


def given_of(values: dict[str, tuple[object, object]]) -> list[str]:
    """The names of options whose value, the first of each pair, is not the default, the second."""
    return [name for name, (value, default) in values.items() if value != default]
