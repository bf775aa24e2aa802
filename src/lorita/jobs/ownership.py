"""Whose files and jobs lie in a folder: they are gone on with only where this user made them here.

An unfinished job is trained as soon as a server finds it, with the options that lie beside it. So
a folder of runs that comes from elsewhere must not bring jobs along. A folder that a server made
holds a random name, and ``storage.confirmed`` remembers the name together with the folder itself.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

from lorita.errors import OutputError
from lorita.storage.confirmed import confirm, is_confirmed, mark
from lorita.storage.files import is_part
from lorita.storage.locks import LOCK_FILE
from lorita.storage.private import open_own, private_file

OWNER = "owner"
_MOST_BYTES = 200


def require_own(data: Path, *, allowed: bool) -> None:
    """``OutputError`` unless this user's servers made what is in ``data``, by whose only writer.

    ``allowed``: the person has said that it may be gone on with, which is remembered.
    """
    new = all(path.name in (LOCK_FILE, OWNER) or is_part(path.name) for path in data.iterdir())
    if new or (allowed and not _name(data)):
        (data / OWNER).unlink(missing_ok=True)
        with private_file(data / OWNER) as file:
            file.write(secrets.token_hex(16).encode())
    line = mark("jobs", _name(data), str(data.stat().st_ino))
    if new or allowed:
        confirm(line)
    elif not is_confirmed(line):
        raise OutputError(
            f"{data}: these files and jobs were not made here by you, and jobs in it that are not "
            "finished would be trained",
            hint="If you trust them: --jobs, which is remembered. To serve without them: "
            "--no-jobs.",
        )


def _name(data: Path) -> str:
    """The random name of the folder; empty if it has none that can be believed."""
    with suppress(OSError), open_own(data / OWNER) as file:
        return file.read(_MOST_BYTES).decode("ascii", "replace").strip()
    return ""
