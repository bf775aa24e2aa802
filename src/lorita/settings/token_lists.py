"""New tokens as people write them: in a file, in one line, or as a list.

A file is read here, once, so that the settings of a run hold the tokens themselves and need no file
later. What they mean to a tokenizer is in ``data/tokens/new_tokens.py``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from lorita.settings.types import Written

LARGEST = 2**20
"""Bytes of a file with tokens; ten thousand take a tenth of it."""
_ENDINGS = (".txt", ".json", ".csv", ".tsv", ".list", ".lst", ".vocab", ".md")
"""A single value that ends like this is the name of a file, there or not."""


def _listed(value: Any) -> Any:
    """The tokens in ``value``: a file with one in each line, or ``a,b``. A list is one already."""
    if not isinstance(value, str):
        return value
    path = Path(value).expanduser()
    try:
        is_file = path.is_file() or _is_pipe(path)
    except (OSError, ValueError):  # too long or impossible as a name
        is_file = False
    if is_file:
        return _in_file(path)
    if len(path.parts) > 1 and os.path.lexists(path):
        raise ValueError("not a file")
    if value.lower().endswith(_ENDINGS) and "," not in value:
        raise ValueError("no such file")
    return [part for part in value.split(",") if part.strip()] or [""]


def _is_pipe(path: Path) -> bool:
    """Whether this is a shell's own pipe, ``<(…)``; any other would wait for its other end."""
    return str(path).startswith(("/dev/fd/", "/proc/")) and path.is_fifo()


def _in_file(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError(f"larger than {LARGEST // 2**20} MB, too large for a list of tokens")
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not in UTF-8 (byte {error.start} is no valid character)") from None
    if path.suffix.lower() != ".json":
        return [line for line in text.split("\n") if line.strip()] or [""]
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON ({error})") from None
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise ValueError("expected a JSON list of texts")
    return values


Tokens = Annotated[
    list[str], BeforeValidator(_listed), Written("FILE|TOKEN,...", holds_commas=True)
]
