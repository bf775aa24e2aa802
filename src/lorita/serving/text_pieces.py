"""The text of an answer as its tokens arrive: no half characters, nothing behind a stop text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

BROKEN = "\N{REPLACEMENT CHARACTER}"


class Detokenizer:
    """Tokens to text, piece by piece; ``decode`` makes the text of some tokens.

    What a token means may depend on those before it, so the last ones are decoded again with it.
    A character that is spread over several tokens comes with the last of them.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._start = self._shown = 0

    def add(self, token: int) -> str:
        """The text that this token completes; may be empty."""
        self._tokens.append(token)
        before, text = self._texts()
        if len(text) <= len(before) or text.endswith(BROKEN):
            return ""
        self._start, self._shown = self._shown, len(self._tokens)
        return text[len(before) :]

    def rest(self) -> str:
        """What is still to come after the last token: characters that stayed incomplete."""
        before, text = self._texts()
        self._shown = len(self._tokens)
        return text[len(before) :]

    def _texts(self) -> tuple[str, str]:
        before = self._decode(self._tokens[self._start : self._shown])
        return before, self._decode(self._tokens[self._start :])


class StopTexts:
    """Passes text on until one of ``stops`` appears, of which nothing is passed on.

    What may be the beginning of one is held back until it is known.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self.held = ""
        self.found: str | None = None

    def add(self, piece: str) -> str:
        """What can be passed on now. Nothing any more once a stop text was ``found``."""
        if self.found is not None:
            return ""
        self.held += piece
        places = [(place, s) for s in self._stops if (place := self.held.find(s)) >= 0]
        if places:
            place, self.found = min(places, key=lambda at: (at[0], -len(at[1])))
            passed, self.held = self.held[:place], ""
            return passed
        keep = max((_beginning(self.held, stop) for stop in self._stops), default=0)
        passed, self.held = self.held[: len(self.held) - keep], self.held[-keep:] * bool(keep)
        return passed

    def rest(self) -> str:
        """What was held back, now that the text is at its end."""
        held, self.held = self.held, ""
        return held


def _beginning(text: str, stop: str) -> int:
    """How many characters at the end of the text are the beginning of ``stop``."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
