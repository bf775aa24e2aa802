"""A chat template, and what rendering a probe reveals about its structure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

PROBE = "\ue000answer\ue001"
"""A stand-in for an answer, to see where a template puts it; no real text contains it."""
_QUESTION = [{"role": "user", "content": "a question"}]
_ANSWER = {"role": "assistant", "content": PROBE}


class TemplateError(ValueError):
    """The template rejects these messages, or is itself broken."""


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template and the special tokens it may refer to.

    Its methods and properties raise ``TemplateError`` if it cannot be rendered.
    """

    name: str
    source: str
    special: Mapping[str, str] = field(default_factory=dict)

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = (), *, ask: bool = False
    ) -> str:
        """The messages as one text; with ``ask``, it ends where the assistant's answer begins."""
        return self._render(messages, tools, add_generation_prompt=ask)[0]

    def render_marked(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = ()
    ) -> tuple[str, list[tuple[int, int]]]:
        """The text and the character spans of the template's ``{% generation %}`` blocks."""
        return self._render(messages, tools, return_assistant_tokens_mask=True)

    def _render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any], **how: bool
    ) -> tuple[str, list[tuple[int, int]]]:
        from jinja2 import TemplateError as JinjaError
        from transformers.utils.chat_template_utils import render_jinja_template

        chat = [dict(message) for message in messages]
        try:
            texts, marks = render_jinja_template(
                [chat],
                tools=list(tools) or None,
                chat_template=self.source,
                **how,
                **self.special,
            )
        except (JinjaError, TypeError, ValueError, KeyError, IndexError) as error:
            line = getattr(error, "lineno", None)
            where = f" (line {line})" if line else ""
            said = str(error).strip() or type(error).__name__
            raise TemplateError(f"chat template error: {said}{where}") from error
        return texts[0], [tuple(mark) for mark in marks[0]] if marks else []

    @cached_property
    def has_marks(self) -> bool:
        """Whether the template itself marks what is trained (``{% generation %}``)."""
        return re.search(r"\{%-?\s*generation\s*-?%\}", self.source) is not None

    @cached_property
    def _asked(self) -> tuple[str, str]:
        """A question, without and with the generation prompt."""
        return self.render(_QUESTION), self.render(_QUESTION, ask=True)

    @cached_property
    def tail(self) -> str:
        """Everything that follows the last answer of a chat."""
        parts = self.render([*_QUESTION, _ANSWER]).split(PROBE)
        if len(parts) != 2:
            raise TemplateError("the chat template does not render the assistant's messages")
        return parts[1]

    @cached_property
    def end_of_turn(self) -> str:
        """What closes the last answer, without trailing white space; empty if nothing does."""
        plain, asked = self._asked
        call = asked.removeprefix(plain).strip()
        end = self.tail.find(call) if call else -1
        rest = self.tail[len(self._inner) :]
        # Some templates add a generation prompt even when not asked for one.
        if end < 0 and asked == plain and rest.strip() and plain.endswith(rest):
            end = len(self._inner)
        return (self.tail if end < 0 else self.tail[:end]).rstrip()

    @property
    def inner_end(self) -> str:
        """What closes an answer that is followed by another turn."""
        return self._inner.rstrip()

    @cached_property
    def _inner(self) -> str:
        """The text between an answer and the header of the next turn."""
        more = {"role": "user", "content": PROBE}
        try:
            parts = self.render([*_QUESTION, _ANSWER, more]).split(PROBE)
            head = self.render([more]).partition(PROBE)[0]
        except TemplateError:
            return ""  # the template accepts a single question only
        between = parts[1] if len(parts) == 3 else ""
        if between.startswith(self.tail.rstrip()):
            return between[: _in_common(between, self.tail)]
        # The end of a chat is marked differently; the header of a turn is known from the first one.
        same = _in_common(between[::-1], head[::-1])
        return between[: len(between) - same]

    def prompt(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = ()) -> str:
        """The text directly before the assistant's answer to these messages."""
        plain, asked = self._asked
        head = self.render(messages, tools, ask=True)
        if asked != plain:
            return head
        # There is no generation prompt: what precedes an answer belongs to the prompt.
        before, found, _ = self.render([*messages, _ANSWER], tools).partition(PROBE)
        return before if found and before.removeprefix(head).strip() else head


def _in_common(one: str, other: str) -> int:
    """The length of the common prefix of two texts."""
    shorter = min(len(one), len(other))
    return next((i for i in range(shorter) if one[i] != other[i]), shorter)
