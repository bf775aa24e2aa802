"""Rows to token ids with exact targets, at their full length.

The tokens before an answer are those that generation will give the model for the same prompt: a
token never reaches over the border between what is given and what is trained.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lorita.data.examples import IGNORE, Example
from lorita.data.row_errors import Problems
from lorita.data.rows import Chat, Pair
from lorita.data.tokens.chat_template import ChatTemplate, TemplateError
from lorita.data.tokens.choose_template import adds_bos, closes
from lorita.data.tokens.masks import Rendered, Span, render_chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATE_HINT = (
    "Give another template (--chat-template chatml), or one that marks the answers with "
    "{% generation %} and {% endgeneration %}."
)


@dataclass(frozen=True)
class Encoded:
    """A whole row. ``answer`` is where its last answer stands (tokens); None for plain text."""

    example: Example
    answer: Span | None = None


class Encoder:
    """A tokenizer, and what has to be known about it to put rows together from parts."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.eos: int = tokenizer.eos_token_id
        self.bos: int | None = tokenizer.bos_token_id if adds_bos(tokenizer) else None
        # Some tokenizers put a space before every text; one that goes on has none.
        line, letter, both = self._plain(["\n", "a", "\na"])
        self._ends: dict[str, list[int]] = {}
        self._line = line if both[: len(line)] == line and both[len(line) :] != letter else None

    def fingerprint(self) -> list[object]:
        """Everything about the tokenizer that the tokens depend on."""
        import tokenizers
        import transformers

        tokenizer = self.tokenizer
        if tokenizer.is_fast:
            inner = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
        else:
            from datasets.fingerprint import Hasher

            inner = Hasher.hash(tokenizer)
        versions = [tokenizers.__version__, transformers.__version__]
        return [type(tokenizer).__name__, inner, self.eos, self.bos, self._line, versions]

    def starts(self, texts: Sequence[str]) -> list[list[int]]:
        """Texts that begin a row, with the special tokens that the tokenizer puts before them.

        A beginning-of-text token that the text itself has is not doubled, an end-of-text token
        that the tokenizer puts behind is taken off.
        """
        if not texts:
            return []
        rows = self._ids(texts, special=True)
        if self.bos is not None:
            rows = [ids[1:] if ids[:2] == [self.bos] * 2 else ids for ids in rows]
        return [ids[:-1] if len(ids) > 1 and ids[-1] == self.eos else ids for ids in rows]

    def goes_on(self, texts: Sequence[str]) -> list[list[int]]:
        """Texts that continue a row: no special tokens, no space that is not theirs."""
        rows = self._plain(texts)
        if self._line is None:
            return rows
        start = len(self._line)
        after_line = self._plain(["\n" + text for text in texts])
        return [
            after[start:] if after[:start] == self._line else ids
            for ids, after in zip(rows, after_line, strict=True)
        ]

    def texts(self, texts: Sequence[str], numbers: Sequence[int]) -> list[Encoded]:
        """Plain texts: every token is a target, the end-of-text token that is added included."""
        rows = [[*ids, self.eos] for ids in self.starts(texts)]
        return [
            Encoded(Example(ids, list(ids), number))
            for ids, number in zip(rows, numbers, strict=True)
        ]

    def pairs(
        self, pairs: Sequence[Pair], numbers: Sequence[int], *, train_prompt: bool = False
    ) -> list[Encoded]:
        """Prompt, completion, end-of-text token; the prompt is given, the rest are targets."""
        heads = self.starts([pair.prompt for pair in pairs])
        tails = self.goes_on([pair.completion for pair in pairs])
        rows = []
        for head, tail, number in zip(heads, tails, numbers, strict=True):
            answer = [*tail, self.eos]
            labels = [*(head if train_prompt else [IGNORE] * len(head)), *answer]
            ids = [*head, *answer]
            rows.append(Encoded(Example(ids, labels, number), (len(head), len(ids))))
        return rows

    def chats(
        self,
        chats: Sequence[Chat],
        numbers: Sequence[int],
        template: ChatTemplate,
        *,
        train_on: str,
        problems: Problems,
    ) -> list[Encoded]:
        """Chats through their template; ``problems`` hears of those that it does not take."""
        rendered: list[tuple[Rendered, int]] = []
        for chat, number in zip(chats, numbers, strict=True):
            try:
                rendered.append((render_chat(template, chat, train_on), number))
            except TemplateError as error:
                problems.add(number, str(error), TEMPLATE_HINT)
        closed = closes(self.tokenizer, template)
        offsets = self._with_offsets([row.text for row, _ in rendered])
        return [
            self._chat(row, number, tokens, closed)
            for (row, number), tokens in zip(rendered, offsets, strict=True)
        ]

    def _chat(
        self, row: Rendered, number: int, tokens: tuple[list[int], list[Span]] | None, closed: bool
    ) -> Encoded:
        """One chat; where nothing stops an answer, it ends with the end-of-text token."""
        edges = [*row.trained, row.answer or (0, 0)]
        borders = sorted({edge for span in edges for edge in span})
        places = _token_places(borders, len(row.text), *tokens) if tokens else None
        starts = {start for start, _ in edges}
        if tokens is None or places is None or not self._alike(row.text, tokens, places, starts):
            ids, places = self._apart(row.text, borders)
        else:
            ids = tokens[0]
        labels = [IGNORE] * len(ids)
        for start, end in row.trained:
            first, last = places[start], places[end]
            labels[first:last] = ids[first:last]
        answer = (places[row.answer[0]], places[row.answer[1]]) if row.answer else None
        if answer is not None and not closed and labels[answer[1] - 1] != IGNORE:
            ids, labels = [*ids[: answer[1]], self.eos], [*labels[: answer[1]], self.eos]
            answer = (answer[0], len(ids))
        if answer is None:  # what is kept of a long row is then its last trained turn
            begin, end = row.trained[-1] if row.trained else (len(row.text), len(row.text))
            answer = (places.get(begin, len(ids)), places.get(end, len(ids)))
        return Encoded(Example(list(ids), labels, number), answer)

    def _alike(
        self,
        text: str,
        tokens: tuple[list[int], list[Span]],
        places: dict[int, int],
        starts: set[int],
    ) -> bool:
        """Whether the prompt's last tokens would be the same if the answer were not there yet.

        White space is where they may differ: some tokenizers keep its last character for the word
        that follows.
        """
        ids, offsets = tokens
        for start in starts - {0}:
            place = places[start]
            first = max(place - 4, 0)
            piece = text[offsets[first][0] : start]
            if piece not in self._ends:
                self._ends[piece] = self.goes_on([piece])[0]
            if self._ends[piece] != ids[first:place]:
                return False
        return True

    def _apart(self, text: str, borders: Sequence[int]) -> tuple[list[int], dict[int, int]]:
        """The text tokenised piece by piece, and the token at each border."""
        ids: list[int] = []
        places = {0: 0}
        edges = sorted({0, *borders, len(text)})
        for start, end in pairwise(edges):
            piece = [text[start:end]]
            ids += (self.goes_on(piece) if start else self._plain(piece))[0]
            places[end] = len(ids)
        return ids, places

    def _plain(self, texts: Sequence[str]) -> list[list[int]]:
        return self._ids(texts, special=False)

    def _ids(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        """What ``tokenizer(texts)`` gives; a fast one is asked for nothing but the ids."""
        tokenizer = self.tokenizer
        if tokenizer.is_fast:
            inner = tokenizer.backend_tokenizer
            inner.no_truncation()
            inner.no_padding()
            rows = inner.encode_batch_fast(list(texts), add_special_tokens=special)
            return [row.ids for row in rows]
        encoded = tokenizer(list(texts), add_special_tokens=special, return_attention_mask=False)
        return [list(ids) for ids in encoded["input_ids"]]

    def _with_offsets(
        self, texts: Sequence[str]
    ) -> list[tuple[list[int], list[Span]]] | list[None]:
        """Ids and the characters of each token; None where the tokenizer does not tell them."""
        if not self.tokenizer.is_fast or not texts:
            return [None] * len(texts)
        encoded: Any = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            return_attention_mask=False,
            return_offsets_mapping=True,
        )
        return list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))


def _token_places(
    borders: Sequence[int], length: int, ids: Sequence[int], offsets: Sequence[Span]
) -> dict[int, int] | None:
    """The token that begins at each border; None where a token reaches over one.

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
