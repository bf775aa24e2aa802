"""A tokenizer together with the facts needed to build rows from separately tokenised parts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

from lorita.data.tokens.chat_template import ChatTemplate
from lorita.data.tokens.control_tokens import CUT, ControlTokens, control_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TokenOffsets: TypeAlias = tuple[list[int], list[tuple[int, int]]]
"""The ids of a text and, for each token, its first character and the one after its last."""


AS_TEXT, AS_TOKENS = "text", "tokens"
"""What a text means that spells a control token: ordinary text, or the token."""


def encoder_for(
    tokenizer: PreTrainedTokenizerBase, template: ChatTemplate | None, control: str
) -> Encoder:
    """An encoder that treats control tokens in texts as ``control`` says."""
    found = control_tokens(tokenizer, template) if control == AS_TEXT else None
    return Encoder(tokenizer, found)


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer itself puts a beginning-of-text token before a text."""
    bos = tokenizer.bos_token_id
    return bos is not None and list(tokenizer("a")["input_ids"])[:1] == [bos]


class Encoder:
    """Texts to token ids, distinguishing a text that begins a row from one that continues it.

    ``eos`` is the end-of-text token; ``bos`` the beginning-of-text token, or None if the tokenizer
    does not add it. ``control`` are the control tokens that rows may spell as ordinary text; None
    if their spelling means the token itself.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, control: ControlTokens | None = None
    ) -> None:
        self.tokenizer, self.control = tokenizer, control
        self.eos: int = tokenizer.eos_token_id
        self.bos: int | None = tokenizer.bos_token_id if adds_bos(tokenizer) else None
        # Some tokenizers put a space before every text; a text that continues a row has none.
        line, letter, both = self.plain(["\n", "a", "\na"])
        self._letter = letter
        self._line = line if both[: len(line)] == line and both[len(line) :] != letter else None

    def fingerprint(self) -> list[object]:
        """Everything about the tokenizer that the ids depend on, for cache keys."""
        import tokenizers
        import transformers

        tokenizer = self.tokenizer
        if tokenizer.is_fast:
            inner = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
        else:
            from datasets.fingerprint import Hasher

            inner = Hasher.hash(tokenizer)
        versions = [tokenizers.__version__, transformers.__version__]
        control = self.control and self.control.spellings
        return [type(tokenizer).__name__, inner, self.eos, self.bos, self._line, control, versions]

    def as_text(self, texts: Sequence[str]) -> list[str]:
        """The texts with a cut in each control token that they spell (``control_tokens``)."""
        return [self.control.cut(text) for text in texts] if self.control else list(texts)

    def starts(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts that begin a row, with the special tokens the tokenizer puts before them.

        No token spans a cut. A beginning-of-text token that the text itself contains is not
        doubled; an end-of-text token appended by the tokenizer is removed.
        """
        if not texts:
            return []
        if any(CUT in text for text in texts):
            first, *rest = zip(*(text.partition(CUT) for text in texts), strict=True)
            return [a + b for a, b in zip(self.starts(first), self.goes_on(rest[1]), strict=True)]
        rows = self._ids(texts, special=True)
        if self.bos is not None:
            rows = [ids[1:] if ids[:2] == [self.bos] * 2 else ids for ids in rows]
        return [ids[:-1] if len(ids) > 1 and ids[-1] == self.eos else ids for ids in rows]

    def goes_on(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts that continue a row: no special tokens and no space that is not theirs."""
        if any(CUT in text for text in texts):
            pieces = [self.goes_on([p for p in text.split(CUT) if p]) for text in texts]
            return [list(chain.from_iterable(ids)) for ids in pieces]
        rows = self.plain(texts)
        if self._line is None:
            return rows
        # A line end before another one could become a single token with it.
        leads = ["a" if text[:1].isspace() else "\n" for text in texts]
        after_lead = self.plain([lead + text for lead, text in zip(leads, texts, strict=True)])
        before = {"a": self._letter, "\n": self._line}
        return [
            after[len(before[lead]) :] if after[: len(before[lead])] == before[lead] else ids
            for ids, lead, after in zip(rows, leads, after_lead, strict=True)
        ]

    def plain(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids without special tokens, exactly as the tokenizer produces them."""
        return self._ids(texts, special=False)

    def with_offsets(self, texts: Sequence[str]) -> list[TokenOffsets] | list[None]:
        """Ids and character offsets of each text; None for tokenizers that have no offsets."""
        if not self.tokenizer.is_fast or not texts:
            return [None] * len(texts)
        encoded: Any = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            return_attention_mask=False,
            return_offsets_mapping=True,
        )
        return list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))

    def _ids(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        """The ids of ``tokenizer(texts)``; a fast tokenizer computes nothing else."""
        tokenizer = self.tokenizer
        if tokenizer.is_fast:
            inner = tokenizer.backend_tokenizer
            inner.no_truncation()
            inner.no_padding()
            rows = inner.encode_batch_fast(list(texts), add_special_tokens=special)
            return [row.ids for row in rows]
        encoded = tokenizer(list(texts), add_special_tokens=special, return_attention_mask=False)
        return [list(ids) for ids in encoded["input_ids"]]
