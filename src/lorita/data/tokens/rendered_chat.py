"""A chat rendered by its template, and what can be told about each message in the text.

The text is rendered once as it is and once with a mark at the end of each field (``fields``): the
marks say where a message ends and what the template has left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lorita.data.examples import Span
from lorita.data.tokens.chat_template import ChatTemplate, TemplateError, in_common
from lorita.data.tokens.control_tokens import ControlTokens
from lorita.data.tokens.fields import (
    BOOKKEEPING,
    Field,
    Marked,
    mark_chat,
    with_one_mark,
    without_marks,
)
from lorita.data.tokens.template_forms import Messages


@dataclass(frozen=True)
class RenderedChat:
    """The first messages of a chat as the template renders them.

    Raises ``TemplateError`` where the template rejects them. Spans count characters of ``text``.
    """

    template: ChatTemplate
    messages: Sequence[dict[str, Any]]
    tools: Sequence[Any]
    documents: Sequence[Any]

    @classmethod
    def made_of(
        cls,
        template: ChatTemplate,
        messages: Messages,
        tools: Sequence[Any],
        documents: Sequence[Any] = (),
        control: ControlTokens | None = None,
    ) -> RenderedChat:
        """A chat in which the control tokens that it spells are cut, if ``control`` is given."""
        if control is None:
            return cls(template, [dict(message) for message in messages], tools, documents)
        cut = control.cut_messages(messages)
        return cls(template, cut, control.cut_all(tools), control.cut_all(documents))

    def upto(self, i: int) -> RenderedChat:
        """The same chat, ending with message ``i``."""
        return RenderedChat(self.template, self.messages[: i + 1], self.tools, self.documents)

    def ends_with(self, i: int) -> bool:
        """Whether message ``i`` is the last one."""
        return i + 1 == len(self.messages)

    @cached_property
    def _answers(self) -> list[int]:
        return [i for i, message in enumerate(self.messages) if message["role"] == "assistant"]

    @property
    def last_answer(self) -> int | None:
        """The index of the last answer; None if there is none."""
        return self._answers[-1] if self._answers else None

    @cached_property
    def turns(self) -> list[Span]:
        """The spans of the answers that stand in the text as generation would put them."""
        spans = [(self.start(i), self.end(i)) for i in self._answers]
        return [(a, b) for a, b in spans if a is not None and b is not None and a < b]

    @cached_property
    def text(self) -> str:
        """The whole text."""
        return self._render(self.messages)

    def _render(self, messages: Messages) -> str:
        return self.template.render(messages, self.tools, self.documents)

    # What is asked before an answer

    def question(self, i: int) -> str | None:
        """The text that generation gives to the model before answer ``i``.

        None if the template accepts complete chats only.
        """
        if i not in self._questions:
            try:
                asked = self.template.prompt(self.messages[:i], self.tools, self.documents)
            except TemplateError:
                asked = None
            self._questions[i] = asked
        return self._questions[i]

    @cached_property
    def _questions(self) -> dict[int, str | None]:
        return {}

    def unasked(self, i: int) -> str:
        """What the question before answer ``i`` has, and the text does not."""
        question = self.question(i) or ""
        return question[in_common(self.text, question) :]

    def start(self, i: int) -> int | None:
        """Where message ``i`` begins: an answer, right after its question; None if it does not."""
        question = self.question(i) if self.messages[i]["role"] == "assistant" else None
        if question is None:
            found = self.content(i)
            return found[0] if found else None
        return len(question) if self.text.startswith(question) else None

    # What the text shows of a message

    @cached_property
    def _marked(self) -> tuple[Marked, str]:
        marked = mark_chat(self.messages, self.tools, self.documents)
        try:
            return marked, self._render_marked(marked)
        except TemplateError:
            _ = self.text  # raises if it is not because of the marks
        shown = [self._render_one(marked, mark) for mark in marked.fields]
        return marked, "\n".join(shown)

    def _render_one(self, marked: Marked, mark: str) -> str:
        try:
            return self._render_marked(with_one_mark(marked, mark))
        except TemplateError:
            return ""

    def _render_marked(self, marked: Marked) -> str:
        return self.template.render(marked.messages, marked.tools, marked.documents)

    @cached_property
    def _places(self) -> dict[str, int]:
        """Where each mark stands in the text; empty if marks change more than themselves."""
        plain, places = without_marks(self._marked[1], self._marked[0])
        return places if plain == self.text else {}

    @cached_property
    def all_lost(self) -> list[Field]:
        """All fields that the text does not show."""
        marked, text = self._marked
        return list(dict.fromkeys(marked.fields[mark] for mark in marked.missing(text)))

    def shows(self, place: Field) -> bool:
        """Whether the text reaches as far as this field, and shows it."""
        there = place.message is None or place.message < len(self.messages)
        return there and place not in self.all_lost

    def lost(self, i: int) -> list[Field]:
        """The fields of answer ``i`` that the text does not show exactly."""
        marked, text = self._marked
        missing = [marked.fields[mark] for mark in marked.marks_of(i) if mark not in text]
        return [place for place in dict.fromkeys(missing) if place.name not in BOOKKEEPING]

    def _marks_at(self, i: int) -> list[int]:
        return [self._places[m] for m in self._marked[0].marks_of(i) if m in self._places]

    def inside(self, i: int, start: int, end: int) -> bool:
        """Whether all that is known to belong to message ``i`` is within this span."""
        return all(start <= place <= end for place in self._marks_at(i))

    def content(self, i: int) -> Span | None:
        """The span of a message's content, and of what closes it; None if it is not certain."""
        said = str(self.messages[i].get("content") or "").strip()
        places, end = self._marks_at(i), self.end(i)
        if len(places) != 1 or not said or end is None:
            return None
        start = places[0] - len(said)
        return (start, end) if start >= 0 and self.text[start : places[0]] == said else None

    def composed(self, i: int) -> tuple[str, int] | None:
        """A text in which the last message, an answer, follows its question; and where it begins.

        It is the question, and the answer as the text shows it. None if it does not show where the
        answer begins. Some templates show the messages before an answer otherwise once it is there.
        """
        call, question, places = self.template.call, self.question(i), self._marks_at(i)
        if not call or question is None or not places or not question.endswith(call):
            return None
        start = self.text.rfind(call, 0, min(places)) + len(call)
        others = [self._places[m] for m in self._places if m not in self._marked[0].marks_of(i)]
        if start < len(call) or any(place > start for place in others):
            return None
        return question + self.text[start:], len(question)

    def end(self, i: int) -> int | None:
        """Where message ``i`` ends, with what closes its turn if it is an answer."""
        if self.messages[i]["role"] != "assistant":
            return max(self._marks_at(i), default=None)
        last = self if self.ends_with(i) else self.upto(i)
        whole, template = last.text, self.template
        if self.text.startswith(whole):
            if whole.endswith(template.tail):
                return len(whole) - len(template.tail) + len(template.end_of_turn)
            return len(whole.rstrip())
        end = self._end_by_marks(i, last)
        return self._blocks.get(i) if end is None else end

    def _end_by_marks(self, i: int, last: RenderedChat) -> int | None:
        """The end of an answer that would be rendered differently if nothing followed it.

        It is what follows its last field in both texts.
        """
        places, alone = self._marks_at(i), last._marks_at(i)
        if not places or not alone:
            return None
        end, rest, closing = max(places), self.text[max(places) :], last.text[max(alone) :]
        if closing.rstrip() and rest.startswith(closing.rstrip()):
            return end + len(closing.rstrip())
        marks = [m for m in (self.template.end_of_turn, self.template.inner_end) if m]
        for same in range(in_common(rest, closing), -1, -1):
            for mark in marks:
                if rest.startswith(mark, same):
                    return end + same + len(mark)
        return None if marks else end

    @cached_property
    def _blocks(self) -> dict[int, int]:
        """The ends of the template's own ``{% generation %}`` blocks, by message."""
        if not self.template.has_marks:
            return {}
        text, blocks = self.template.render_marked(self.messages, self.tools, self.documents)
        if len(blocks) != len(self._answers) or text != self.text:
            return {}
        return {i: end for i, (_, end) in zip(self._answers, blocks, strict=True)}
