"""A chat template, and what rendering a probe reveals about its structure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lorita.data.tokens.template_forms import Forms, Messages, find_forms

PROBE = "\ue000answer\ue001"
"""A stand-in for an answer, to see where a template puts it; no real text contains it."""
_QUESTION = [{"role": "user", "content": "a question"}]
_ANSWER = {"role": "assistant", "content": PROBE}


class TemplateError(ValueError):
    """The template rejects these messages, or is itself broken."""


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template and the special tokens it may refer to.

    ``for_tools`` is the tokenizer's other template, for chats with tools; None if it has none. The
    methods and properties raise ``TemplateError`` if the template cannot be rendered.
    """

    name: str
    source: str
    special: Mapping[str, str] = field(default_factory=dict)
    for_tools: ChatTemplate | None = None

    def with_tools(self, tools: Sequence[Any]) -> ChatTemplate:
        """The template for chats with these tools."""
        return self.for_tools if tools and self.for_tools is not None else self

    def render(
        self,
        messages: Messages,
        tools: Sequence[Any] = (),
        documents: Sequence[Any] = (),
        *,
        ask: bool = False,
    ) -> str:
        """The messages as one text; with ``ask``, it ends where the assistant's answer begins."""
        return self._shaped(messages, tools, documents, ask=ask)[0]

    def render_marked(
        self, messages: Messages, tools: Sequence[Any] = (), documents: Sequence[Any] = ()
    ) -> tuple[str, list[tuple[int, int]]]:
        """The text and the character spans of the template's ``{% generation %}`` blocks."""
        return self._shaped(messages, tools, documents)

    @cached_property
    def forms(self) -> Forms:
        """The form in which the template takes messages and tools."""

        def attempt(messages: list[dict[str, Any]], tools: list[Any]) -> str | None:
            try:
                return self._render(messages, tools, ())[0]
            except TemplateError:
                return None

        return find_forms(attempt)

    def _shaped(
        self,
        messages: Messages,
        tools: Sequence[Any],
        documents: Sequence[Any],
        *,
        ask: bool = False,
    ) -> tuple[str, list[tuple[int, int]]]:
        forms = self.forms
        return self._render(forms.messages(messages), forms.tools(tools), documents, ask=ask)

    def _render(
        self,
        messages: list[dict[str, Any]],
        tools: Sequence[Any],
        documents: Sequence[Any],
        *,
        ask: bool = False,
    ) -> tuple[str, list[tuple[int, int]]]:
        from lorita.data.tokens.bounded_template import render_bounded
        from lorita.data.tokens.template_environment import what_templates_see

        try:
            seen = what_templates_see(messages, tools, documents, self.special, ask=ask)
            return render_bounded(self.source, seen)
        except Exception as error:  # a template is a program, which may fail in any way
            line = getattr(error, "lineno", None)
            where = f" (line {line})" if line else ""
            said = str(error).strip() or type(error).__name__
            raise TemplateError(f"chat template error: {said}{where}") from error

    @cached_property
    def has_marks(self) -> bool:
        """Whether the template itself marks what is trained (``{% generation %}``)."""
        return re.search(r"\{%-?\s*generation\s*-?%\}", self.source) is not None

    @cached_property
    def _asked(self) -> tuple[str, str]:
        """A question, without and with the generation prompt."""
        return self.render(_QUESTION), self.render(_QUESTION, ask=True)

    @property
    def call(self) -> str:
        """The generation prompt: what asks for an answer; empty if nothing does."""
        plain, asked = self._asked
        return asked.removeprefix(plain) if asked.startswith(plain) else ""

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
        call = self.call.strip()
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
            return between[: in_common(between, self.tail)]
        # The end of a chat is marked differently; the header of a turn is known from the first one.
        same = in_common(between[::-1], head[::-1])
        return between[: len(between) - same] or self._before_header(between)

    def _before_header(self, between: str) -> str:
        """What stands before the next turn's header, which begins as the generation prompt does."""
        call = self.call
        shared = next((n for n in range(len(call), 0, -1) if call[:n] in between), 0)
        return between[: between.find(call[:shared])] if shared else ""

    def prompt(
        self, messages: Messages, tools: Sequence[Any] = (), documents: Sequence[Any] = ()
    ) -> str:
        """The text directly before the assistant's answer to these messages."""
        plain, asked = self._asked
        head = self.render(messages, tools, documents, ask=True)
        if asked != plain:
            return head
        # There is no generation prompt: what precedes an answer belongs to the prompt.
        before, found, _ = self.render([*messages, _ANSWER], tools, documents).partition(PROBE)
        return before if found and before.removeprefix(head).strip() else head


def in_common(one: str, other: str) -> int:
    """The length of the common prefix of two texts."""
    shorter = min(len(one), len(other))
    return next((i for i in range(shorter) if one[i] != other[i]), shorter)
