"""A chat template, and what it tells about itself when it is asked to render a probe."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

PROBE = "\ue000answer\ue001"
"""Stands for an answer when a template is asked where it puts one; no text contains it."""
_QUESTION = [{"role": "user", "content": "a question"}]
_ANSWER = {"role": "assistant", "content": PROBE}


class TemplateError(ValueError):
    """The template refuses these messages, or cannot be read."""


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template and the special tokens that it may name."""

    name: str
    source: str
    special: Mapping[str, str] = field(default_factory=dict)

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = (), *, ask: bool = False
    ) -> str:
        """The messages as one text; ``ask`` ends it where the assistant begins to speak."""
        return self._render(messages, tools, add_generation_prompt=ask)[0]

    def render_marked(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = ()
    ) -> tuple[str, list[tuple[int, int]]]:
        """The text, and where the template's ``{% generation %}`` blocks stand in it."""
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
            where = f" (its line {line})" if line else ""
            said = str(error).strip() or type(error).__name__
            raise TemplateError(f"the chat template says: {said}{where}") from error
        return texts[0], [tuple(mark) for mark in marks[0]] if marks else []

    @cached_property
    def has_marks(self) -> bool:
        """Whether the template itself says what is trained."""
        return re.search(r"\{%-?\s*generation\s*-?%\}", self.source) is not None

    @cached_property
    def _asked(self) -> tuple[str, str]:
        """A question, without and with the call for an answer."""
        return self.render(_QUESTION), self.render(_QUESTION, ask=True)

    @cached_property
    def tail(self) -> str:
        """All that follows the last answer of a chat."""
        parts = self.render([*_QUESTION, _ANSWER]).split(PROBE)
        if len(parts) != 2:
            raise TemplateError("the chat template does not show what the assistant says")
        return parts[1]

    @cached_property
    def end_of_turn(self) -> str:
        """What closes the last answer, without the white space after it; empty if nothing does."""
        plain, asked = self._asked
        call = asked.removeprefix(plain).strip()
        end = self.tail.find(call) if call else -1
        rest = self.tail[len(self._inner) :]
        # Some templates call for the next answer even when they are not told to.
        if end < 0 and asked == plain and rest.strip() and plain.endswith(rest):
            end = len(self._inner)
        return (self.tail if end < 0 else self.tail[:end]).rstrip()

    @property
    def inner_end(self) -> str:
        """What closes an answer when the chat goes on."""
        return self._inner.rstrip()

    @cached_property
    def _inner(self) -> str:
        """What stands between an answer and the head of the next turn."""
        more = {"role": "user", "content": PROBE}
        try:
            parts = self.render([*_QUESTION, _ANSWER, more]).split(PROBE)
            head = self.render([more]).partition(PROBE)[0]
        except TemplateError:
            return ""  # it takes one question only
        between = parts[1] if len(parts) == 3 else ""
        if between.startswith(self.tail.rstrip()):
            return between[: _in_common(between, self.tail)]
        # The end of the chat is marked in another way; the head of a turn is known from the first.
        same = _in_common(between[::-1], head[::-1])
        return between[: len(between) - same]

    def prompt(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = ()) -> str:
        """The text after which the assistant's own words begin."""
        plain, asked = self._asked
        head = self.render(messages, tools, ask=True)
        if asked != plain:
            return head
        # The template knows no call for an answer; what it puts before one is part of the prompt.
        before, found, _ = self.render([*messages, _ANSWER], tools).partition(PROBE)
        return before if found and before.removeprefix(head).strip() else head


def _in_common(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    shorter = min(len(one), len(other))
    return next((i for i in range(shorter) if one[i] != other[i]), shorter)
