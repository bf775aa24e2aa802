"""Two answers side by side: which of their words the other one does not have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

MOST_WORDS = 2000
"""Words of an answer that are compared; finding the differences takes time in their square."""
LEAST_ALIKE = 2
"""Words in a row that both texts must have to count as alike."""
_PIECE = re.compile(r"\s+|[\u3040-\u30ff\u3400-\u9fff]|\w+|[^\w\s]")
"""Words, and the characters of scripts that put no space between them."""


@dataclass(frozen=True)
class Piece:
    """A part of a text; ``differs`` if the other text does not have it in this place."""

    text: str
    differs: bool


def marked(before: str, after: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces, with what differs marked. Texts that are too long are not compared."""
    old, new = _PIECE.findall(before), _PIECE.findall(after)
    if max(len(old), len(new)) > 2 * MOST_WORDS:
        return [Piece(before, False)], [Piece(after, False)]
    left: list[Piece] = []
    right: list[Piece] = []
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        # Within the texts, a word alone is in both by chance: marks around it hide what differs.
        at_an_end = a == c == 0 or (b == len(old) and d == len(new))
        differs = kind != "equal" or not (at_an_end or _words(old[a:b]) >= LEAST_ALIKE)
        _add(left, "".join(old[a:b]), differs)
        _add(right, "".join(new[c:d]), differs)
    return left, right


def _words(pieces: list[str]) -> int:
    return sum(piece[0].isalnum() for piece in pieces)


def _add(pieces: list[Piece], text: str, differs: bool) -> None:
    """Append a text, in one piece with the last one if it is marked alike."""
    if not text:
        return
    if pieces and pieces[-1].differs == differs:
        text = pieces.pop().text + text
    pieces.append(Piece(text, differs))
