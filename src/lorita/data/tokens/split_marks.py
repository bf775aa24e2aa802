"""Marks of a chat template that a tokenizer splits, although they are meant to be control tokens.

A model that was not trained with the template has no tokens for its marks. The pieces work, but
cost length, and no single token ends an answer; ``add_special_tokens`` makes tokens of them.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lorita.data.tokens.chat_template import ChatTemplate, TemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK = re.compile(
    r"<[|｜][^<>|｜\s]{1,40}[|｜]>"  # <|im_start|>, and DeepSeek's with wide bars
    r"|<(?:start|end|bos|eos)_of_[a-z]{1,20}>"
    r"|</?s>|\[/?[A-Z][A-Z_]{1,30}\]|<</?SYS>>"
)
_TURNS: tuple[dict[str, Any], ...] = (
    {"role": "system", "content": "a"},
    {"role": "user", "content": "b"},
    {"role": "assistant", "content": "c"},
    {"role": "user", "content": "d"},
)
_CHATS = (_TURNS, _TURNS[1:], _TURNS[1:3])
"""Some templates refuse a system message, or a second question."""


def split_marks(tokenizer: PreTrainedTokenizerBase, template: ChatTemplate) -> dict[str, int]:
    """The marks that the template writes into ordinary chats, and how many tokens each is.

    Only those that are more than one, in order.
    """
    for chat in _CHATS:
        with suppress(TemplateError):
            text = template.render(list(chat))
            marks = dict.fromkeys(match[0] for match in _MARK.finditer(text))
            sizes = {m: len(tokenizer.encode(m, add_special_tokens=False)) for m in marks}
            return {mark: size for mark, size in sizes.items() if size > 1}
    return {}


def split_note(tokenizer: PreTrainedTokenizerBase, template: ChatTemplate) -> list[str]:
    """A line that proposes to make tokens of these marks, with the flag that does."""
    marks = split_marks(tokenizer, template)
    if not marks:
        return []
    pieces = ", ".join(f"{mark} is {size} tokens" for mark, size in marks.items())
    they, them = ("them", "tokens") if len(marks) > 1 else ("it", "a token")
    return [
        f"the tokenizer splits marks of the chat template ({pieces}); to make {they} {them} of the "
        f'model: --add-special-tokens "{",".join(marks)}"'
    ]
