"""How a command says something: the one place in the command line that prints sentences.

In a terminal, lines are broken between words; in a pipe or a file they are left whole, so that
``grep`` finds them. Tables are drawn on ``render.console``.
"""

from __future__ import annotations

import math
import sys
from typing import Any, TextIO


def say(text: object) -> None:
    """The result of a command, on standard output."""
    _print(str(text), sys.stdout)


def tell(text: object) -> None:
    """What is said beside the result, on standard error."""
    _print(str(text), sys.stderr)


def say_json(value: Any) -> None:
    """Figures for other programs, as JSON; null stands for those that are not finite."""
    from lorita.system.terminal_text import json_text

    say_exactly(json_text(_finite(value), indent=1))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say_exactly(text: str, *, end: str = "\n") -> None:
    """Text that other programs read, or that was broken into lines already: never broken here."""
    print(text, end=end)


def _print(text: str, stream: TextIO | None) -> None:
    if stream is None:
        return
    if not stream.isatty():
        print(text, file=stream)
        return
    from lorita.workflows.screen import Screen, print_text

    print_text(Screen(stderr=stream is sys.stderr), text)


class Words:
    """Text that arrives in pieces, shown at once and broken between words in a terminal."""

    def __init__(self) -> None:
        self._column, self._waiting = 0, ""
        self._width = _width() if sys.stdout.isatty() else 0

    def write(self, piece: str) -> None:
        """Show what the piece completes: a word waits for its end, to know where it fits."""
        if not self._width:
            print(piece, end="", flush=True)
            return
        self._waiting += piece
        while (cut := _word_end(self._waiting)) > 0:
            self._put(self._waiting[:cut])
            self._waiting = self._waiting[cut:]

    def end(self, mark: str = "") -> None:
        """Show the last word and ``mark``, and end the line."""
        self._put(self._waiting)
        self._waiting = ""
        if mark:
            self._put(f" {mark}")
        print(flush=True)

    def _put(self, word: str) -> None:
        """A word with the white space before it, on a new line if it does not fit in this one."""
        from rich.cells import cell_len

        from lorita.system.terminal_text import shown

        text = word.lstrip(" ")
        size = cell_len(shown(text))
        if "\n" in word:
            self._column = cell_len(shown(word.rpartition("\n")[2]))
        elif self._column and self._column + len(word) - len(text) + size > self._width:
            word, self._column = f"\n{text}", size
        else:
            self._column += len(word) - len(text) + size
        print(word, end="", flush=True)


def _word_end(text: str) -> int:
    """Where the first word of the text ends, white space before it included; 0 if it may go on."""
    start = len(text) - len(text.lstrip())
    for place in range(start, len(text)):
        if text[place].isspace():
            return place
    return 0


def _width() -> int:
    from shutil import get_terminal_size

    return max(get_terminal_size().columns - 1, 20)
