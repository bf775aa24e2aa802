"""Numbers of things in a sentence."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """``1 row``, ``2 rows``, ``1,000 rows``: a number and the thing, or its plural with an s."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
