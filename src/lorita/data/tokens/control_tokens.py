"""Text that spells a control token stays text.

A row about chat formats may contain ``<|im_end|>``; a tokenizer would turn it into the token that
ends a turn. It is cut behind its first character, and the pieces are tokenised apart. The cut is a
character that no text contains, so that it passes through a chat template; it is removed before
tokens are made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lorita.data.examples import Span
from lorita.data.tokens.template_forms import THINK

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lorita.data.tokens.chat_template import ChatTemplate

CUT = "\ue00c"
_CUTS = re.compile(rf"{CUT}|\\ue00c")
"""The cut, also as a template may write it in JSON."""
_TAG = re.compile(r"</?[a-z_]+>")
"""``<think>``, ``<tool_call>``: markup of answers, which people write into answers on purpose."""


@dataclass(frozen=True)
class ControlTokens:
    """The control tokens of a tokenizer and a chat template, by their spelling."""

    spellings: tuple[str, ...]

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest = sorted(self.spellings, key=len, reverse=True)
        firsts = "".join(sorted({re.escape(token[0]) for token in longest}))
        choices = "|".join(map(re.escape, longest))
        return re.compile(f"(?=[{firsts}])(?:{choices})" if longest else "(?!)")

    def find(self, text: str) -> str | None:
        """The first control token that the text spells; None if there is none."""
        found = self._pattern.search(text)
        return found[0] if found else None

    def cut(self, text: str) -> str:
        """The text with a cut in each control token."""
        return self._pattern.sub(lambda found: found[0][0] + CUT + found[0][1:], text)

    def cut_all(self, value: Any) -> Any:
        """The value with all texts in it cut; so are the keys of objects."""
        if isinstance(value, str):
            return self.cut(value)
        if isinstance(value, Mapping):
            return {self.cut_all(key): self.cut_all(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.cut_all(item) for item in value]
        return value

    def cut_messages(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The messages with all texts cut; the tags of reasoning in an answer are markup."""
        return [
            {k: v if k == "role" else self._cut_answer(v) for k, v in message.items()}
            if message["role"] == "assistant"
            else {k: v if k == "role" else self.cut_all(v) for k, v in message.items()}
            for message in messages
        ]

    def _cut_answer(self, value: Any) -> Any:
        if not isinstance(value, str):
            return self.cut_all(value)
        pieces = THINK.split(value)
        return "".join(p if i % 2 else self.cut(p) for i, p in enumerate(pieces))


def control_tokens(
    tokenizer: PreTrainedTokenizerBase, template: ChatTemplate | None = None
) -> ControlTokens:
    """The special tokens, and the added tokens that the template's own text consists of.

    Tags such as ``<think>`` count only if the tokenizer calls them special; a token that is an
    ordinary word, or white space, never does.
    """
    added = tokenizer.added_tokens_decoder.values()
    special = {*tokenizer.all_special_tokens, *(t.content for t in added if t.special)}
    sources = [t.source for t in (template, template and template.for_tools) if t]
    ours = {
        token.content
        for token in added
        if not _TAG.fullmatch(token.content) and any(token.content in text for text in sources)
    }
    found = {str(token) for token in special | ours}
    return ControlTokens(
        tuple(sorted(t for t in found if len(t) > 1 and not t.isspace() and not t.isalnum()))
    )


def cut_places(text: str, spans: Sequence[Span] = ()) -> tuple[str, list[Span], list[int]]:
    """The text without its cuts, the spans moved accordingly, and where the cuts were."""
    found = [match.span() for match in _CUTS.finditer(text)]
    if not found:
        return text, list(spans), []

    def moved(place: int) -> int:
        return place - sum(min(end, place) - start for start, end in found if start < place)

    return (
        _CUTS.sub("", text),
        [(moved(a), moved(b)) for a, b in spans],
        [moved(a) for a, _ in found],
    )
