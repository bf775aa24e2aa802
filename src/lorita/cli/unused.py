"""Flags of a command that do nothing beside others: said in a line."""

from __future__ import annotations

from typing import Any

from lorita.cli.say import tell


def say_unused(why: str, *names: str, **flags: tuple[Any, Any]) -> None:
    """A warning that names the flags that do nothing: ``names``, and those of ``flags`` whose
    value, the first of each pair, is not the default, the second. Nothing without any."""
    given = [*names, *(name for name, (value, default) in flags.items() if value != default)]
    if given:
        shown = ", ".join(f"--{name.strip('_').replace('_', '-')}" for name in given)
        tell(f"Warning: {shown} {'does' if len(given) == 1 else 'do'} nothing {why}")
