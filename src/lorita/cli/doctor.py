"""``lorita doctor``: what this machine can do and what lorita will choose."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter


def command(
    *,
    prune: Annotated[
        bool, Parameter(help="Empty lorita's caches instead, and say what was deleted.")
    ] = False,
) -> None:
    """Show what this machine can do and what lorita will choose.

    Each choice comes with its reason. The caches are listed with their sizes.
    """
    if prune:
        from lorita.workflows.caches import prune_caches

        print("\n".join(prune_caches()))
        return
    from lorita.workflows.doctor import examine

    print(examine())
