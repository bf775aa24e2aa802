"""Read files as the command line does, and say what was understood or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lorita.data.formats.choose_format import Wanted
from lorita.data.formats.preferences import preferred_rows
from lorita.data.formats.readers import read_rows
from lorita.data.rows import Chat, Message, Row, Rows
from lorita.data.sources.load_source import load_source
from lorita.errors import DataError

USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
TURNS = [USER, ANSWER]
CHAT = Chat((Message("user", "Hi"), Message("assistant", "Hello")))
ANSWERED = Chat((Message("user", "Hi", muted=True), Message("assistant", "Hello")))
"""The chat when only its last turn is to be trained."""


def lines(*rows: dict[str, Any]) -> str:
    """Rows as JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def place(folder: Path, name: str, content: str | bytes) -> Path:
    """A file in the folder, with the folders in between."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, wanted: Wanted | None = None, **options: Any) -> Rows:
    """The rows of a file or folder."""
    return read_rows(preferred_rows(load_source(str(path), **options)), wanted)


def rows_of(path: Path, wanted: Wanted | None = None, **options: Any) -> list[Row]:
    """The rows of a file or folder, as a list."""
    return list(read(path, wanted, **options).rows)


def refusal(path: Path, wanted: Wanted | None = None, **options: Any) -> str:
    """The one message with which a file is refused."""
    try:
        found = read(path, wanted, **options)
    except DataError as error:
        return str(error)
    raise AssertionError(f"read as {found.understood}: {found.rows[0]}")
