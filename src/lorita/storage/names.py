"""Names of things that are not there: paths, or names on the hub, and what may have been meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

RUNS = "runs"
"""The folder that runs are put in by default."""


def is_path(name: str) -> bool:
    r"""Whether a name is a path, there or not: ``./x``, ``~/x``, ``a/b/c``, ``C:\x``, ``runs/x``.

    The hub's names are ``owner/name`` or ``name``.
    """
    first, *rest = name.split("/")
    return (
        first in ("", ".", "..", RUNS)
        or first.startswith("~")
        or len(rest) > 1
        or rest == [""]
        or "\\" in name
        or re.match("[A-Za-z]:", name) is not None
    )


def meant(name: str, others: Iterable[str] = ()) -> str | None:
    """``Did you mean …?`` with the closest of ``others`` and of what lies beside that path."""
    path = Path(name).expanduser()
    names = {other.casefold(): other for other in others}
    with suppress(OSError, ValueError):
        beside = sorted(path.parent.iterdir())[:1000] if path.parent.is_dir() else []
        for entry in beside:
            if not entry.name.startswith("."):
                names.setdefault(entry.name.casefold(), str(path.parent / entry.name))
    found = difflib.get_close_matches(path.name.casefold(), names, n=1, cutoff=0.75)
    return f"Did you mean {names[found[0]]}?" if found else None


def hint(name: str, advice: str, others: Iterable[str] = ()) -> str:
    """``advice`` for a name that is not there, after what may have been meant."""
    return " ".join(filter(None, (meant(name, others), advice)))
