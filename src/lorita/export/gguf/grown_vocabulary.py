"""The vocabulary of a GGUF base with the tokens that were added to its tokenizer.

What is in the file stays as it is; new tokens follow, or take the place of entries that stand for
no token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lorita.errors import AdapterError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lorita.models.gguf_header import Header

_TOKENS, _TYPES, _SCORES = (f"tokenizer.ggml.{key}" for key in ("tokens", "token_type", "scores"))


def grown_vocabulary(
    header: Header, tokenizer: PreTrainedTokenizerBase, rows: int
) -> dict[str, Any]:
    """The keys of the file that change, with their new values: lists of ``rows`` entries.

    Nothing where the file has all tokens of ``tokenizer``. ``AdapterError`` where a new token would
    take the place of another one.
    """
    import gguf

    kinds = gguf.TokenType
    lists: dict[str, list[Any]] = {
        key: list(header.get(key)) for key in (_TOKENS, _TYPES, _SCORES) if key in header.entries
    }
    tokens = lists[_TOKENS]
    types = lists.setdefault(_TYPES, [int(kinds.NORMAL)] * len(tokens))
    added = {i: t for i, t in tokenizer.added_tokens_decoder.items() if i < rows}
    fresh = {i: t for i, t in added.items() if i >= len(tokens) or tokens[i] != t.content}
    if not fresh:
        return {}
    filler = {_TOKENS: "", _TYPES: int(kinds.UNUSED), _SCORES: 0.0}
    for i in range(len(tokens), rows):
        for key, values in lists.items():
            values.append(f"[PAD{i}]" if key == _TOKENS else filler[key])
    for i, token in fresh.items():
        if types[i] != kinds.UNUSED:
            raise AdapterError(
                f"the new token {token.content!r} has the id {i}, which in the base's GGUF file is "
                f"{tokens[i]!r}",
                hint="Merge into the base's own folder instead: lorita merge RUN OUT.",
            )
        tokens[i] = token.content
        types[i] = int(kinds.CONTROL if token.special else kinds.USER_DEFINED)
    changed: dict[str, Any] = dict(lists)
    for key in header.entries:
        if key.endswith(".vocab_size"):
            changed[key] = rows
    return changed
