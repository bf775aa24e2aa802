"""``lorita doctor``: what this machine can do and what lorita will choose."""

from __future__ import annotations


def command() -> None:
    """Show what this machine can do and what lorita will choose.

    Each choice comes with its reason.
    """
    from lorita.workflows.doctor import examine

    print(examine())
