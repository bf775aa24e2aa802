"""What a file holds, where its content says more than its name: JSON in a .txt, UTF-16."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace

from lorita.data.sources.open_file import UTF_16, DataFile, FileProblem, open_bytes, open_text

SAMPLE = 2**16
"""Characters that are looked at."""
_OBJECT = re.compile(r'\s*(?:\[\s*)?\{\s*"(?:[^"\\\n]|\\.)*"\s*:')


def by_content(file: DataFile, *, named: bool) -> DataFile:
    """The file with the type that its content shows, and a note that says so.

    A type that the user ``named`` is kept. What cannot be opened is reported when it is read.
    """
    notes = []
    with suppress(FileProblem, OSError, UnicodeDecodeError):
        with open_bytes(file) as raw:
            if raw.read(2).startswith(UTF_16):
                notes.append("UTF-16 text")
        if not named and file.kind in ("text", "csv", "tsv") and _is_json(file):
            notes.append(f"holds JSON, read as such (--file-type {file.kind} to read it as named)")
            file = replace(file, kind="json")
    return replace(file, note="; ".join(notes))


def _is_json(file: DataFile) -> bool:
    """Whether the file is a list of objects, or each of its first lines an object."""
    with open_text(file) as text:
        sample = text.read(SAMPLE)
    if not _OBJECT.match(sample):
        return False
    lines = [line for line in sample.splitlines()[:20] if line.strip()]
    return (
        sample.lstrip().startswith("[")
        or lines[0].strip() == "{"
        or all(_OBJECT.match(line) for line in lines)
    )
