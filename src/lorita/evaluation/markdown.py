"""Text from elsewhere in Markdown: it reads as it is, and makes no links, tables or HTML.

The files are also shown in terminals, so control characters are escaped as they are there.
"""

from __future__ import annotations

import json
import re

from lorita.system.terminal_text import shown

_MARKUP = re.compile(
    r"[`*\[\]<>|$~]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # within a word it means nothing
    r"|&(?=#?\w+;)"  # the start of an entity
    r"|\\(?=[!-/:-@\[-`{-~]|$)"  # would escape what follows
    r"|^\s*[-+=#]|^\s*\d{1,9}[.)]",  # the start of a list or a heading
    re.MULTILINE,
)


def escaped(text: str) -> str:
    """The text so that Markdown shows each character of it."""
    return _MARKUP.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", shown(text))


def one_line(text: str) -> str:
    """``escaped`` without line breaks, for headings and cells."""
    return escaped(" ".join(text.split()))


def quote(text: str) -> str:
    """The text as a quotation, line by line."""
    lines = escaped(text.strip() or "(nothing)").splitlines()
    return "\n".join(f"> {line}".rstrip() for line in lines)


def code(text: str) -> str:
    """The text as code within a line."""
    line = shown(" ".join(text.split()))
    ticks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if "`" in line else ""
    return f"{ticks}{space}{line}{space}{ticks}"


def python_string(text: str) -> str:
    """The text as a Python string on one line, for examples in code."""
    return shown(json.dumps(text, ensure_ascii=False))
