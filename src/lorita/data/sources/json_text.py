"""The text of a JSON file, read value by value, so that a file of any size can be walked through.

Strict: what Python accepts beyond standard JSON is refused, and so are keys given twice. What the
values mean is left to ``json_files`` and ``json_shape``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from lorita.data.sources.open_file import LONGEST_ROW, DataFile, FileProblem, open_text, too_long

CHUNK = 2**18
_NO_SPACE = re.compile(r"\S")
_OPEN = "Unterminated string starting at"
"""The decoder's message if the text ends inside a string; its position is the string's start."""


class _Refused(ValueError):
    """Something that Python accepts and standard JSON does not."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        twice = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        raise _Refused(f"duplicate key {twice!r}")
    return row


def _constant(word: str) -> Any:
    raise _Refused(f"{word} is not allowed; write null, or omit the key")


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def reason(error: BaseException) -> str:
    """Why the decoder refused a value that is not plainly malformed."""
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


class JsonText:
    """A window on the text of a file, with the current position and its line number."""

    def __init__(self, file: DataFile) -> None:
        self._file = open_text(file)
        self.text, self.place, self.line, self.ended = "", 0, 1, False

    def __enter__(self) -> JsonText:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def more(self, count: int = CHUNK) -> None:
        """Read ``count`` more characters and discard those before the current position."""
        new = self._file.read(count)
        self.ended = not new
        self.text = self.text[self.place :] + new
        self.place = 0

    def go(self, place: int) -> None:
        """Move to ``place`` in the window, counting the lines in between."""
        self.line += self.text.count("\n", self.place, place)
        self.place = place

    def next(self) -> str:
        """Move to the next character that is not white space and return it; empty at the end."""
        while True:
            found = _NO_SPACE.search(self.text, self.place)
            if found or self.ended:
                self.go(found.start() if found else len(self.text))
                return found.group() if found else ""
            self.go(len(self.text))
            self.more()

    def value(self, where: str) -> tuple[Any, str]:
        """The JSON value that begins here and its text; moves behind it.

        ``where`` names the value in the message of a ``FileProblem``.
        """
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.place)
            except json.JSONDecodeError as error:
                if len(self.text) - self.place > LONGEST_ROW:
                    raise FileProblem(too_long(where)) from None
                cut = error.pos + 16 > len(self.text) or error.msg == _OPEN
                if self.ended or not cut:
                    line = self.line + self.text.count("\n", self.place, error.pos)
                    raise FileProblem(f"line {line}: not valid JSON: {error.msg}") from None
            except (ValueError, RecursionError) as error:
                raise FileProblem(f"{where}: not valid JSON: {reason(error)}") from None
            else:
                # A number that ends where the window ends may go on.
                if end < len(self.text) or self.ended:
                    raw = self.text[self.place : end]
                    self.go(end)
                    return value, raw
            self.more(max(CHUNK, len(self.text) - self.place))

    def elements(self, what: str = "list") -> Iterator[int]:
        """The numbers of the elements of the list that begins here, counted from 1.

        The caller moves behind each element before it asks for the next.
        """
        self.go(self.place + 1)
        if self.next() == "]":
            self.go(self.place + 1)
            return
        number = 0
        while True:
            number += 1
            yield number
            if self._after("]", "a row", f"the {what} is not closed; the file is truncated"):
                return

    def members(self) -> Iterator[str]:
        """The keys of the object that begins here; the caller moves behind each value."""
        self.go(self.place + 1)
        if self.next() == "}":
            self.go(self.place + 1)
            return
        seen: set[str] = set()
        while True:
            if self.next() != '"':
                raise FileProblem(f"line {self.line}: not valid JSON: expected a key in quotes")
            key, _ = self.value(f"line {self.line}")
            if key in seen:
                raise FileProblem(f"line {self.line}: not valid JSON: duplicate key {key!r}")
            seen.add(key)
            if self.next() != ":":
                raise FileProblem(f"line {self.line}: not valid JSON: expected : after a key")
            self.go(self.place + 1)
            self.next()
            yield key
            if self._after("}", "a value", "an object is not closed; the file is truncated"):
                return

    def _after(self, closing: str, value: str, truncated: str) -> bool:
        """Move to the next value and return False, or behind the ``closing`` mark: True."""
        mark = self.next()
        if not mark:
            raise FileProblem(f"line {self.line}: {truncated}")
        if mark not in (",", closing):
            what = f"expected , or {closing} after {value}, found {mark!r}"
            raise FileProblem(f"line {self.line}: not valid JSON: {what}")
        self.go(self.place + 1)
        if mark == "," and self.next() == closing:
            what = f"a comma before the closing {closing}"
            raise FileProblem(f"line {self.line}: not valid JSON: {what}")
        return mark == closing

    def skip(self, depth: int = 3) -> None:
        """Move behind the value that begins here; only what is ``depth`` levels down is limited."""
        mark = self.text[self.place : self.place + 1]
        if depth and mark in ("{", "["):
            for _ in self.members() if mark == "{" else self.elements():
                self.skip(depth - 1)
        else:
            self.value(f"line {self.line}")

    def whole(self, depth: int = 2) -> Any:
        """The value that begins here; only what is ``depth`` levels down has a size limit."""
        mark = self.text[self.place : self.place + 1]
        if depth and mark == "{":
            return {key: self.whole(depth - 1) for key in self.members()}
        if depth and mark == "[":
            return [self.whole(depth - 1) for _ in self.elements()]
        return self.value(f"line {self.line}")[0]
