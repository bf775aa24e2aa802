"""``lorita doctor``: what this machine can do and what lorita will choose."""

from __future__ import annotations

from lorita.cli.say import say
from lorita.cli.waiting import waiting


def command() -> None:
    """Show what this machine can do and what lorita will choose.

    Each choice comes with its reason.
    """
    with waiting("Measuring this machine, and building the kernels if need be"):
        from lorita.workflows.doctor import examine

        found = examine()
    say(found)
