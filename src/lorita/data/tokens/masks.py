"""Which characters of a rendered chat are trained: each answer and what closes its turn.

If the template marks them (``{% generation %}``), the marks are used. Otherwise the spans come from
rendering the chat up to an answer and up to its end, or, if a template renders earlier turns
differently from the last, from rendering the chat with the answer replaced. If none of these is
exact, the row is refused: a mask that is off by one token teaches the wrong thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lorita.data.examples import Span
from lorita.data.rows import Chat
from lorita.data.tokens.chat_template import PROBE, ChatTemplate, TemplateError


@dataclass(frozen=True)
class Rendered:
    """A chat as text; ``trained`` are character spans in order.

    ``answer`` is the span of the last answer; None if there is none or it is muted.
    """

    text: str
    trained: list[Span]
    answer: Span | None


def render_chat(template: ChatTemplate, chat: Chat, train_on: str) -> Rendered:
    """The chat as the model sees it, with the spans that are trained.

    ``train_on`` is ``assistant`` (every answer), ``completion`` (the last one) or ``all``. Muted
    turns are never trained. Raises ``TemplateError`` if the template rejects the chat or a span
    cannot be determined exactly.
    """
    messages = [message.as_dict() for message in chat.messages]
    answers = [i for i, message in enumerate(chat.messages) if message.role == "assistant"]
    muted = [i for i, message in enumerate(chat.messages) if message.muted]
    if train_on == "all":
        wanted = [*muted, *answers[-1:]]
    else:
        wanted = [i for i in answers[-1 if train_on == "completion" else 0 :] if i not in muted]
    text, spans = _find(template, messages, chat.tools, answers, wanted)
    last = spans.get(answers[-1]) if answers and answers[-1] not in muted else None
    if train_on == "all":
        return Rendered(text, _without([spans[i] for i in muted], len(text)), last)
    return Rendered(text, [spans[i] for i in wanted], last)


def _find(
    template: ChatTemplate,
    messages: list[dict[str, Any]],
    tools: Sequence[Any],
    answers: list[int],
    wanted: Sequence[int],
) -> tuple[str, dict[int, Span]]:
    """The text and the spans of the wanted messages."""
    spans: dict[int, Span] = {}
    if template.has_marks:
        text, marks = template.render_marked(messages, tools)
        if len(marks) == len(answers):
            closed = [(start, _closed(template, text, end)) for start, end in marks]
            spans = dict(zip(answers, closed, strict=True))
    else:
        text = template.render(messages, tools)
    for i in wanted:
        if i not in spans:
            found = _by_prefixes(template, messages, tools, text, i)
            found = found or _by_exchange(template, messages, tools, text, i)
            if found is None:
                raise TemplateError(
                    f"message {i + 1}: the chat template does not show exactly which tokens belong "
                    "to it"
                )
            spans[i] = found
    return text, spans


def _by_prefixes(
    template: ChatTemplate,
    messages: list[dict[str, Any]],
    tools: Sequence[Any],
    text: str,
    i: int,
) -> Span | None:
    """The span from the end of the chat before an answer to the end of the chat with it."""
    if messages[i]["role"] != "assistant":
        return None
    try:
        head = template.prompt(messages[:i], tools)
        upto = template.render(messages[: i + 1], tools)
    except TemplateError:
        return None  # it accepts complete chats only
    if not (text.startswith(head) and text.startswith(upto) and len(head) < len(upto)):
        return None
    turn = upto[len(head) :]
    content = messages[i]["content"].strip()
    # Reasoning may be moved elsewhere, and tool calls are rendered in their own form.
    plain = "</think>" not in content and not messages[i].keys() - {"role", "content"}
    if plain and content not in turn:
        return None
    if turn.endswith(template.tail):
        end = len(upto) - len(template.tail) + len(template.end_of_turn)
        return len(head), end
    return len(head), len(head) + len(turn.rstrip())


def _by_exchange(
    template: ChatTemplate,
    messages: list[dict[str, Any]],
    tools: Sequence[Any],
    text: str,
    i: int,
) -> Span | None:
    """The span that changes with the message, if that is exactly its content."""
    other = [*messages[:i], {**messages[i], "content": PROBE}, *messages[i + 1 :]]
    try:
        parts = template.render(other, tools).split(PROBE)
    except TemplateError:
        return None
    if len(parts) != 2:
        return None
    before, after = parts
    start, end = len(before), len(text) - len(after)
    if not (text.startswith(before) and text.endswith(after) and start < end):
        return None
    if text[start:end].strip() != messages[i]["content"].strip():
        return None
    if messages[i]["role"] == "assistant":
        end = _closed(template, text, end)
    return start, end


def _closed(template: ChatTemplate, text: str, end: int) -> int:
    """``end``, moved past the text that closes the turn if that comes next."""
    for mark in (template.end_of_turn, template.inner_end):
        if text.startswith(mark, end):
            return end + len(mark)
    return end


def _without(spans: Sequence[Span], length: int) -> list[Span]:
    """The spans of a text that remain when ``spans`` are removed."""
    left, start = [], 0
    for begin, end in sorted(spans):
        left.append((start, begin))
        start = end
    return [(a, b) for a, b in [*left, (start, length)] if a < b]
