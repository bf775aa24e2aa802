"""Rows to token ids with exact targets, at full length.

The tokens before an answer are those the model is given at generation time for the same prompt:
no token ever spans the boundary between what is given and what is trained.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from lorita.data.examples import IGNORE, Encoded, Example, Span
from lorita.data.row_errors import Problems
from lorita.data.rows import Chat, Pair
from lorita.data.tokens.chat_template import ChatTemplate, TemplateError
from lorita.data.tokens.choose_template import closes, template_hint
from lorita.data.tokens.encoder import Encoder, TokenOffsets
from lorita.data.tokens.masks import Rendered, render_chat, render_question


def encode_texts(encoder: Encoder, texts: Sequence[str], numbers: Sequence[int]) -> list[Encoded]:
    """Plain texts: every token is a target, including the end-of-text token that is added."""
    rows = [[*ids, encoder.eos] for ids in encoder.starts(encoder.as_text(texts))]
    return [
        Encoded(Example(ids, list(ids), number)) for ids, number in zip(rows, numbers, strict=True)
    ]


def encode_pairs(
    encoder: Encoder, pairs: Sequence[Pair], numbers: Sequence[int], *, train_prompt: bool = False
) -> list[Encoded]:
    """Prompt, completion and end-of-text token; only the prompt is not a target."""
    heads = encoder.starts(encoder.as_text([pair.prompt for pair in pairs]))
    tails = encoder.goes_on(encoder.as_text([pair.completion for pair in pairs]))
    rows = []
    for head, tail, number in zip(heads, tails, numbers, strict=True):
        answer = [*tail, encoder.eos]
        labels = [*(head if train_prompt else [IGNORE] * len(head)), *answer]
        ids = [*head, *answer]
        rows.append(Encoded(Example(ids, labels, number), (len(head), len(ids))))
    return rows


def encode_chats(
    encoder: Encoder,
    chats: Sequence[Chat],
    numbers: Sequence[int],
    template: ChatTemplate,
    *,
    train_on: str,
    problems: Problems,
) -> list[Encoded]:
    """Chats rendered by their template; those it rejects are reported to ``problems``.

    A chat whose answers need texts of their own becomes several rows with the same number.
    """
    rendered: list[tuple[Rendered, int, bool]] = []
    ends = {}
    for chat, number in zip(chats, numbers, strict=True):
        used = template.with_tools(chat.tools)
        try:
            row = render_chat(template, chat, train_on, encoder.control)
            if used.source not in ends:
                ends[used.source] = closes(encoder.tokenizer, used)
        except TemplateError as error:
            said = str(error)
            if said not in problems.hints:
                problems.hints[said] = template_hint(encoder.tokenizer, error, chat, train_on)
            problems.add(number, said)
            continue
        problems.note(number, row.left_out)
        rendered += [(text, number, ends[used.source]) for text in row.texts]
    offsets = encoder.with_offsets([text.text for text, _, _ in rendered])
    pieces = _Pieces(encoder)
    return [
        _encode_chat(pieces, text, number, tokens, closed)
        for (text, number, closed), tokens in zip(rendered, offsets, strict=True)
    ]


def _encode_chat(
    pieces: _Pieces, row: Rendered, number: int, tokens: TokenOffsets | None, closed: bool
) -> Encoded:
    """One text; if nothing in the template stops an answer, the row ends with end-of-text."""
    ids, places = pieces.tokens_of(row, tokens)
    labels = [IGNORE] * len(ids)
    for start, end in row.trained:
        first, last = places[start], places[end]
        labels[first:last] = ids[first:last]
    answer = (places[row.answer[0]], places[row.answer[1]]) if row.answer else None
    if answer is not None and not closed and labels[answer[1] - 1] != IGNORE:
        eos = pieces.encoder.eos
        ids, labels = [*ids[: answer[1]], eos], [*labels[: answer[1]], eos]
        answer = (answer[0], len(ids))
    if answer is None:  # if the row is too long, its last trained turn is what is kept
        begin, end = row.trained[-1] if row.trained else (len(row.text), len(row.text))
        answer = (places.get(begin, len(ids)), places.get(end, len(ids)))
    return Encoded(Example(list(ids), labels, number), answer)


def encode_question(
    encoder: Encoder,
    template: ChatTemplate,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Any] = (),
) -> list[int]:
    """The ids that generation is given after these messages: those before an answer in training.

    Raises ``TemplateError`` if the template rejects the messages.
    """
    row = render_question(template, messages, tools, encoder.control)
    return _Pieces(encoder).tokens_of(row, encoder.with_offsets([row.text])[0])[0]


class _Pieces:
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
