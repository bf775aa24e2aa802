"""Rows to the examples that training sees: encoded, fitted to ``max_length``, checked.

The end-of-text token ends every row that was not cut, and is a target; without it a model never
learns to stop. There is no padding here: it is added, if a model needs it, when rows are put side
by side (``batches``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from lorita.data.examples import (
    Encoded,
    StoredExamples,
    Tokenized,
    example_batch,
)
from lorita.data.formats.stored_rows import row_batches
from lorita.data.origin import Origin
from lorita.data.row_errors import Problems
from lorita.data.rows import Chat, Pair, Row, Text, as_chat, fingerprint
from lorita.data.sources.table_batches import TableBatches
from lorita.data.sources.table_cache import key_of, stored
from lorita.data.tokens.chat_template import ChatTemplate
from lorita.data.tokens.choose_template import template_hint
from lorita.data.tokens.encode import encode_chats, encode_pairs, encode_texts
from lorita.data.tokens.encoder import AS_TEXT, Encoder, encoder_for
from lorita.data.tokens.long_rows import fit_rows
from lorita.data.tokens.tokenizer_template import saved_sources
from lorita.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BARREN_HINT = "Remove these rows, or choose what is trained with --train-on."


@dataclass(frozen=True)
class Treatment:
    """How rows become tokens: template, what is trained, and what happens to long rows.

    ``train_on`` is ``completion``, ``assistant`` or ``all``; None trains on the answers if there
    are any, otherwise on everything. ``control_tokens``: what rows mean that spell control tokens,
    ordinary ``text`` or the ``tokens`` themselves.
    """

    max_length: int
    template: ChatTemplate | None = None
    train_on: str | None = None
    overflow: str = "truncate"
    control_tokens: str = AS_TEXT

    def encoder(self, tokenizer: PreTrainedTokenizerBase) -> Encoder:
        """The encoder of the rows."""
        return encoder_for(tokenizer, self.template, self.control_tokens)

    def record(self) -> list[object]:
        """Everything here that the tokens depend on, for cache keys."""
        template = self.template and [saved_sources(self.template), self.template.special]
        return [self.max_length, template, self.train_on, self.overflow, self.control_tokens]


def tokenize_rows(
    rows: Sequence[Row],
    numbers: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    how: Treatment,
    *,
    origin: Origin | str,
) -> Tokenized:
    """All rows as examples; ``numbers`` are their row numbers in the data, counted from 0.

    Examples are cached under a key of the rows, the tokenizer and ``how``. Raises ``DataError`` for
    rows that the template rejects, for rows without anything to train on, and if no row is left.
    """
    encoder = how.encoder(tokenizer)
    made_from = fingerprint(rows)
    key = key_of("tokens", made_from, list(numbers), encoder.fingerprint(), how.record())
    table, counts = stored(key, lambda: _batches(rows, numbers, encoder, how, origin))
    examples = StoredExamples(table)
    if rows and not len(examples):
        raise DataError(
            f"{origin}: every row is longer than max_length ({how.max_length}) and was dropped",
            hint="Raise --max-length, or cut rows with --overflow truncate.",
        )
    return Tokenized(examples, **counts, fingerprint=made_from)


def _batches(
    rows: Sequence[Row],
    numbers: Sequence[int],
    encoder: Encoder,
    how: Treatment,
    origin: Origin | str,
) -> TableBatches:
    """The examples in batches, then the counts of what was cut."""
    counts = dict.fromkeys(("rows_cut", "tokens_cut", "targets_cut", "rows_split"), 0)
    counts |= dict.fromkeys(("rows_dropped", "rows_divided"), 0)
    done = 0
    problems = Problems(origin)
    yield example_batch([])
    for batch in row_batches(rows):
        encoded = encode_rows(batch, numbers[done : done + len(batch)], encoder, how, problems)
        done += len(batch)
        fitted = fit_rows(
            encoded, max_length=how.max_length, overflow=how.overflow, bos=encoder.bos
        )
        for name in counts:
            counts[name] += getattr(fitted, name)
        counts["rows_divided"] += len(divided_rows(encoded))
        yield example_batch(fitted.examples)
    problems.raise_any()
    left_out = {name: len(rows) for name, rows in problems.left_out.items()}
    return {**counts, "left_out": left_out}


def encode_rows(
    rows: Sequence[Row],
    numbers: Sequence[int],
    encoder: Encoder,
    how: Treatment,
    problems: Problems,
) -> list[Encoded]:
    """Rows at full length; those that cannot be trained on are added to ``problems``.

    Rows that the template rejects are not in the result. A chat may become several, one after the
    other, with the same row number.
    """
    encoded = _encode(rows, numbers, encoder, how, problems)
    for row in encoded:
        if row.example.num_targets == 0:
            problems.add(row.example.row, "nothing to train on", BARREN_HINT)
    return encoded


def divided_rows(encoded: Sequence[Encoded]) -> set[int]:
    """The numbers of the rows that became several."""
    numbers = [row.example.row for row in encoded]
    return {one for one, other in pairwise(numbers) if one == other}


def _encode(
    rows: Sequence[Row],
    numbers: Sequence[int],
    encoder: Encoder,
    how: Treatment,
    problems: Problems,
) -> list[Encoded]:
    texts = [row.text for row in rows if isinstance(row, Text)]
    if texts or not rows:
        if how.train_on in ("completion", "assistant"):
            raise DataError(
                f"{problems.origin}: train_on {how.train_on}: "
                "the rows are plain text and have no answers",
                hint="Name their columns: --prompt-field NAME --completion-field NAME.",
            )
        return encode_texts(encoder, texts, numbers)
    pairs = [row for row in rows if isinstance(row, Pair)]
    if pairs and how.template is None:
        return encode_pairs(encoder, pairs, numbers, train_prompt=how.train_on == "all")
    chats = [as_chat(row) if isinstance(row, Pair) else row for row in rows]
    assert how.template is not None, "chats always have a template"
    return encode_chats(
        encoder,
        [chat for chat in chats if isinstance(chat, Chat)],
        numbers,
        how.template,
        train_on=(train_on := how.train_on or "assistant"),
        problems=problems,
        hint=lambda error, chat: template_hint(encoder.tokenizer, error, chat, train_on),
    )


def tokenize_texts(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    rows: Sequence[int] | None = None,
) -> Tokenized:
    """Plain texts, each with its end-of-text token, cut at ``max_length``.

    ``rows`` are the texts' row numbers in the data, by default 0, 1, 2, …
    """
    numbers = range(len(texts)) if rows is None else rows
    how = Treatment(max_length)
    return tokenize_rows([Text(text) for text in texts], numbers, tokenizer, how, origin="texts")
