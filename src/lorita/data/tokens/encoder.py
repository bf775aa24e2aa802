"""A tokenizer together with the facts needed to build rows from separately tokenised parts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TokenOffsets: TypeAlias = tuple[list[int], list[tuple[int, int]]]
"""The ids of a text and, for each token, its first character and the one after its last."""


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer itself puts a beginning-of-text token before a text."""
    bos = tokenizer.bos_token_id
    return bos is not None and list(tokenizer("a")["input_ids"])[:1] == [bos]


class Encoder:
    """Texts to token ids, distinguishing a text that begins a row from one that continues it.

    ``eos`` is the end-of-text token; ``bos`` the beginning-of-text token, or None if the tokenizer
    does not add it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.eos: int = tokenizer.eos_token_id
        self.bos: int | None = tokenizer.bos_token_id if adds_bos(tokenizer) else None
        # Some tokenizers put a space before every text; a text that continues a row has none.
        line, letter, both = self.plain(["\n", "a", "\na"])
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
        return [type(tokenizer).__name__, inner, self.eos, self.bos, self._line, versions]

    def starts(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts that begin a row, with the special tokens the tokenizer puts before them.

        A beginning-of-text token that the text itself contains is not doubled; an end-of-text
        token appended by the tokenizer is removed.
        """
        if not texts:
            return []
        rows = self._ids(texts, special=True)
        if self.bos is not None:
            rows = [ids[1:] if ids[:2] == [self.bos] * 2 else ids for ids in rows]
        return [ids[:-1] if len(ids) > 1 and ids[-1] == self.eos else ids for ids in rows]

    def goes_on(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts that continue a row: no special tokens and no space that is not theirs."""
        rows = self.plain(texts)
        if self._line is None:
            return rows
        start = len(self._line)
        after_line = self.plain(["\n" + text for text in texts])
        return [
            after[start:] if after[:start] == self._line else ids
            for ids, after in zip(rows, after_line, strict=True)
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
