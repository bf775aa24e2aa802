"""The tokens of a rendered text, with a token border wherever generation has one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from lorita.data.examples import Span
from lorita.data.tokens.encoder import Encoder, TokenOffsets

if TYPE_CHECKING:
    from lorita.data.tokens.masks import Rendered


class Pieces:
    """Finds the tokens of rendered chats, and the token at each border of a trained span."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._ends: dict[str, list[int]] = {}

    def tokens_of(
        self, row: Rendered, tokens: TokenOffsets | None
    ) -> tuple[list[int], dict[int, int]]:
        """The ids of the whole text, and the index of the token that begins at each border.

        The text is tokenised piece by piece if a token would reach across a border.
        """
        edges = [*row.trained, *row.turns, row.answer or (0, 0)]
        borders = sorted({edge for span in edges for edge in span})
        places = _token_places(borders, len(row.text), *tokens) if tokens else None
        starts = {start for start, _ in edges}
        if row.cuts:
            return self._apart(row.text, sorted({*borders, *row.cuts}))
        if tokens is None or places is None or not self._alike(row.text, tokens, places, starts):
            return self._apart(row.text, borders)
        return tokens[0], places

    def _alike(
        self, text: str, tokens: TokenOffsets, places: dict[int, int], starts: set[int]
    ) -> bool:
        """Whether the prompt's last tokens would be the same without the answer behind them.

        White space is where they may differ: some tokenizers join its last character to the word
        that follows.
        """
        ids, offsets = tokens
        for start in starts - {0}:
            place = places[start]
            first = max(place - 4, 0)
            piece = text[offsets[first][0] : start]
            if piece not in self._ends:
                self._ends[piece] = self.encoder.goes_on([piece])[0]
            if self._ends[piece] != ids[first:place]:
                return False
        return True

    def _apart(self, text: str, borders: Sequence[int]) -> tuple[list[int], dict[int, int]]:
        """The text tokenised piece by piece, and the index of the token at each border."""
        ids: list[int] = []
        places = {0: 0}
        edges = sorted({0, *borders, len(text)})
        for start, end in pairwise(edges):
            piece = [text[start:end]]
            ids += (self.encoder.goes_on(piece) if start else self.encoder.plain(piece))[0]
            places[end] = len(ids)
        return ids, places


def _token_places(
    borders: Sequence[int], length: int, ids: Sequence[int], offsets: Sequence[Span]
) -> dict[int, int] | None:
    """The index of the token that begins at each border; None if a token reaches across one.

    Offsets may leave out white space around a token, so only a token that ends at the border
    proves that the next one begins there.
    """
    ends = [end for _, end in offsets]
    places = {0: 0}
    for border in borders:
        place = len(ids) if border == length else bisect_right(ends, border)
        before = ends[place - 1] if place else 0
        after = offsets[place][0] if place < len(ids) else length
        if after < border or (before != border and border != length):
            return None
        places[border] = place
    return places
