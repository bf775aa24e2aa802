"""Rows to token ids with exact targets, at full length.

The tokens before an answer are those the model is given at generation time for the same prompt:
no token ever spans the boundary between what is given and what is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from lorita.data.examples import IGNORE, Encoded, Example
from lorita.data.row_errors import Problems
from lorita.data.rows import Chat, Pair
from lorita.data.tokens.chat_template import ChatTemplate, TemplateError
from lorita.data.tokens.encoder import Encoder, TokenOffsets
from lorita.data.tokens.masks import Rendered, render_chat
from lorita.data.tokens.pieces import Pieces
from lorita.data.tokens.tokenizer_template import closes

Hint: TypeAlias = Callable[[TemplateError, Chat], str]
"""What to do about a chat that the template rejects."""


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
    hint: Hint,
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
                problems.hints[said] = hint(error, chat)
            problems.add(number, said)
            continue
        problems.note(number, row.left_out)
        rendered += [(text, number, ends[used.source]) for text in row.texts]
    offsets = encoder.with_offsets([text.text for text, _, _ in rendered])
    pieces = Pieces(encoder)
    return [
        _encode_chat(pieces, text, number, tokens, closed)
        for (text, number, closed), tokens in zip(rendered, offsets, strict=True)
    ]


def _encode_chat(
    pieces: Pieces, row: Rendered, number: int, tokens: TokenOffsets | None, closed: bool
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
