"""``lorita doctor``: what this machine can do and what lorita will choose."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lorita.cli.options import Json
from lorita.cli.say import say, say_json
from lorita.cli.unused import say_unused
from lorita.cli.waiting import waiting


def command(
    *,
    prune: Annotated[
        bool, Parameter(help="Empty lorita's caches instead, and say what was deleted.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what this machine can do and what lorita will choose.

    Each choice comes with its reason. The caches are listed with their sizes.
    """
    if prune:
        from lorita.workflows.caches import prune_caches

        say_unused("with --prune", json=(json, False))
        for line in prune_caches():
            say(line)
        return
    with waiting("Measuring this machine, and building the kernels if need be"):
        from lorita.workflows.doctor import examine

        found = examine()
    if json:
        say_json(found.as_dict())
    else:
        say(found)
