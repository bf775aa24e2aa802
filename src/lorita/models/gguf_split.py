"""GGUF models that lie in several files, as llama.cpp splits them: NAME-00001-of-00003.gguf."""

from __future__ import annotations

import re
from pathlib import Path

from lorita.errors import ModelError

COUNT = "split.count"
"""The entry in the metadata of each part that says how many there are."""
_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


def first_part(path: Path) -> Path:
    """The file with the metadata, if ``path`` is named like another part and that is beside it."""
    named = _NAME.fullmatch(path.name)
    if named is None or int(named["number"]) == 1:
        return path
    first = path.with_name(f"{named['stem']}-00001-of-{named['count']}.gguf")
    return first if first.exists() else path


def other_parts(path: Path, count: int) -> list[Path]:
    """The parts after the first; ``ModelError`` if they are not all beside it."""
    named = _NAME.fullmatch(path.name)
    hint = "Put all parts into one folder under their own names, and name the first."
    if named is None or int(named["count"]) != count:
        raise ModelError(
            f"{path}: this is one of {count} parts of a model, and its name is not that of one "
            f"(NAME-00001-of-{count:05d}.gguf)",
            hint=hint,
        )
    parts = [
        path.with_name(f"{named['stem']}-{number:05d}-of-{named['count']}.gguf")
        for number in range(1, count + 1)
    ]
    missing = [part.name for part in parts if not part.is_file()]
    if missing or parts[0] != path:
        what = ", ".join(missing) or parts[0].name
        raise ModelError(f"{path}: part of a split model; missing beside it: {what}", hint=hint)
    return parts[1:]
