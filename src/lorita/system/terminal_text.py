"""Text from elsewhere on a terminal: what would control the terminal is shown as an escape.

Rows, names, prompts, answers and messages of servers may contain characters that move the cursor,
change colours, set the window's title or turn the direction of a line. ``escaped_streams`` stands
before standard output and error, so that no message needs to think of it. The same text is written
whether or not the output is a terminal: it often reaches one later.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 except tab and newline, DEL, C1
    "\u2028\u2029\u202a-\u202e\u2066-\u2069"  # separators, and what turns the direction of text
    "\ud800-\udfff]"  # halves of characters: bytes of a file name that are not UTF-8
)
_BAR_MOVES = re.compile(r"\n*(?:\x1b\[A)*")
"""What tqdm writes to get from one download bar to another."""


def shown(text: str) -> str:
    r"""The text as it is safe to show: ``\x1b``, ``\r``, ``\u202e`` for what controls a terminal.

    Tab and newline stay, and so do joiners and marks that ordinary text of some scripts needs.
    """
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def can_draw() -> bool:
    """Whether terminals here understand more than lines of text (``TERM`` is not ``dumb``)."""
    return os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """The value as JSON that is safe to show and reads back exactly."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class EscapedStream:
    """A text stream that writes ``shown`` text to ``stream``; all else is the stream's own.

    ``bars``: download bars may return to the start of a line and to the line above.
    """

    def __init__(self, stream: TextIO, *, bars: bool = False) -> None:
        self._stream = stream
        self._bars = bars

    @property
    def rich_proxied_file(self) -> Any:
        """The stream itself, for rich, which draws on it and looks for this name."""
        stream: Any = self._stream
        while hasattr(stream, "rich_proxied_file"):  # a bar of rich may stand in between
            stream = stream.rich_proxied_file
        return stream

    def write(self, text: str) -> int:
        """Write the text; returns its length, as it was before escaping."""
        if not (self._bars and _BAR_MOVES.fullmatch(text)):
            start = "\r" if self._bars and text.startswith("\r") else ""
            self._stream.write(start + shown(text[len(start) :]))
        else:
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each of the lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def escaped_streams() -> Iterator[None]:
    """Standard output and error show text escaped inside, whoever writes it."""
    streams = sys.stdout, sys.stderr
    if sys.stdout is not None:
        sys.stdout = cast("TextIO", EscapedStream(sys.stdout))
    if sys.stderr is not None:
        sys.stderr = cast("TextIO", EscapedStream(sys.stderr, bars=True))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
