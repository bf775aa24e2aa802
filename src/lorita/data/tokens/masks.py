"""Which characters of a rendered chat are trained: each answer and what closes its turn.

An answer is trained only in a text in which it stands where generation will put it: after the
template's own prompt for the messages before it, with everything that its message holds. Where
later turns change that (many templates drop earlier reasoning), the answer gets a text of its own,
which ends with it. If even there its span is not exact, the row is refused: a mask that is off by
one token teaches the wrong thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lorita.data.examples import Span
from lorita.data.rows import Chat
from lorita.data.tokens.chat_template import ChatTemplate, TemplateError
from lorita.data.tokens.control_tokens import ControlTokens, cut_places
from lorita.data.tokens.fields import BOOKKEEPING, Field
from lorita.data.tokens.rendered_chat import RenderedChat

MOST_SHOWN = 60
"""Characters of a generation prompt that a message shows."""
UNSHOWN = "message {}: the chat template does not show exactly which tokens belong to it"


class LostFields(TemplateError):
    """The template leaves out something that the row holds; ``fields`` says what."""

    def __init__(self, fields: Sequence[Field]) -> None:
        names = [
            f"{place.name} of message {place.message + 1}"
            if place.message is not None
            else place.name
            for place in dict.fromkeys(fields)
        ]
        super().__init__(f"the chat template leaves out {', '.join(names)}")
        self.fields = list(fields)


class MarkedTurn(TemplateError):
    """The row asks to train a turn that is not the assistant's."""


class AskedOtherwise(TemplateError):
    """Generation would put something before an answer, ``unasked``, that training does not have."""

    def __init__(self, message: int, unasked: str) -> None:
        super().__init__(
            f"message {message + 1}: the chat template's generation prompt goes on with "
            f"{unasked[:MOST_SHOWN]!r}, which is not there when it shows this answer"
        )
        self.unasked = unasked


@dataclass(frozen=True)
class Rendered:
    """A text to train on; ``trained`` are character spans in order.

    ``answer`` is the span of the last answer; None if there is none or it is muted. ``turns`` are
    the spans of all answers, trained or not: no token reaches across their ends. ``cuts`` are
    other places that no token may span, because the text around them spells a control token.
    """

    text: str
    trained: list[Span]
    answer: Span | None
    turns: list[Span] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class RenderedRow:
    """The texts that train the answers of a chat, and the fields left out of them on purpose."""

    texts: list[Rendered]
    left_out: list[str]


def render_chat(
    template: ChatTemplate, chat: Chat, train_on: str, control: ControlTokens | None = None
) -> RenderedRow:
    """The chat as the model sees it, with the spans that are trained.

    ``train_on`` is ``assistant`` (every answer), ``completion`` (the last one) or ``all``. Muted
    turns are never trained. Control tokens that the row spells are kept as text, if ``control`` is
    given. Raises ``TemplateError`` if the template rejects the chat, loses a part of it, or does
    not show a span exactly.
    """
    answers = [i for i, message in enumerate(chat.messages) if message.role == "assistant"]
    muted = [i for i, message in enumerate(chat.messages) if message.muted]
    wanted = [i for i in answers[-1 if train_on == "completion" else 0 :] if i not in muted]
    for i, message in enumerate(chat.messages):
        if message.marked and train_on != "all":
            raise MarkedTurn(
                f"message {i + 1} is marked as trained, but only the assistant's turns are trained"
            )
    whole = RenderedChat.made_of(
        template.with_tools(chat.tools),
        [message.as_dict() for message in chat.messages],
        chat.tools,
        chat.documents,
        control,
    )
    if train_on == "all":
        last = answers[-1] if answers and answers[-1] not in muted else None
        return _row([_everything(whole, muted, last)], whole)
    return _row(_texts_of_answers(whole, wanted), whole)


@dataclass(frozen=True)
class _Text:
    """A text with its spans, all of which may still contain cuts; ``view`` is what it shows."""

    view: RenderedChat
    text: str
    trained: Sequence[Span]
    answer: Span | None
    turns: Sequence[Span]


def _everything(whole: RenderedChat, muted: Sequence[int], last: int | None) -> _Text:
    """Everything but the muted turns."""
    found: dict[int, Span] = {}
    for i in {*muted, *([] if last is None else [last])}:
        span = _span(whole, i) or whole.content(i)
        if span is None:
            raise TemplateError(UNSHOWN.format(i + 1))
        found[i] = span
    trained = _without([found[i] for i in muted], len(whole.text))
    answer = None if last is None else found[last]
    return _Text(whole, whole.text, trained, answer, whole.turns)


def _texts_of_answers(whole: RenderedChat, wanted: Sequence[int]) -> list[_Text]:
    """As few texts as possible, in order, in which all wanted answers are trained."""
    texts: list[_Text] = []
    left, view = list(wanted), whole
    while left:
        spans = {i: span for i in left if (span := _answer_span(view, i)) is not None}
        if spans:
            last = None if view.last_answer is None else spans.get(view.last_answer)
            texts.insert(0, _Text(view, view.text, list(spans.values()), last, view.turns))
            left = [i for i in left if i not in spans]
        elif view.ends_with(left[-1]):
            texts.insert(0, _composed(view, left.pop()))
        if left:
            view = whole.upto(left[-1])
    return texts or [_Text(whole, whole.text, [], None, whole.turns)]


def _composed(view: RenderedChat, i: int) -> _Text:
    """The question before the last answer, and that answer as the template shows it at the end."""
    found = None if view.lost(i) else view.composed(i)
    end = view.end(i)
    if found is None or end is None:
        raise _reason(view, i)
    text, start = found
    span = (start, len(text) - (len(view.text) - end))
    before = _question(view.template, view.messages[:i], view.tools, view.documents)
    return _Text(view, text, [span], span, [*before.turns, span])


def _answer_span(view: RenderedChat, i: int) -> Span | None:
    """The span of an answer, if it stands in the text as generation would write it, complete."""
    return None if view.lost(i) else _span(view, i)


def _reason(view: RenderedChat, i: int) -> TemplateError:
    """Why an answer that ends its own text cannot be trained there."""
    if view.lost(i):
        others = [place for place in view.all_lost if not _on_purpose(view, place)]
        return LostFields([*view.lost(i), *others])
    if view.question(i) is not None and view.start(i) is None:
        if view.messages[i - 1]["role"] == "assistant":
            return TemplateError(
                f"message {i + 1}: the chat template does not continue one answer with another"
            )
        return AskedOtherwise(i, view.unasked(i))
    return TemplateError(UNSHOWN.format(i + 1))


def _row(texts: Sequence[_Text], whole: RenderedChat) -> RenderedRow:
    """The texts without cuts; ``LostFields`` if a field is in none of them, without a purpose."""
    lost = [p for p in whole.all_lost if not any(text.view.shows(p) for text in texts)]
    unmeant = [place for place in lost if not _on_purpose(whole, place)]
    if unmeant:
        raise LostFields(unmeant)
    return RenderedRow([_uncut(t) for t in texts], list(dict.fromkeys(p.key for p in lost)))


def _uncut(row: _Text) -> Rendered:
    """The text without its cuts, which are remembered as places."""
    said = [row.answer] if row.answer else []
    plain, moved, cuts = cut_places(row.text, [*row.trained, *said, *row.turns])
    trained, rest = moved[: len(row.trained)], moved[len(row.trained) :]
    return Rendered(plain, trained, rest[0] if said else None, rest[len(said) :], cuts)


def render_question(
    template: ChatTemplate,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Any] = (),
    control: ControlTokens | None = None,
) -> Rendered:
    """What generation gives to the model after these messages, as ``render_chat`` would have it.

    Raises ``TemplateError`` if the template rejects the messages.
    """
    view = RenderedChat.made_of(template.with_tools(tools), messages, tools, control=control)
    return _uncut(_question(view.template, view.messages, view.tools, view.documents))


def _question(
    template: ChatTemplate,
    messages: Sequence[dict[str, Any]],
    tools: Sequence[Any],
    documents: Sequence[Any],
) -> _Text:
    view = RenderedChat(template, messages, tools, documents)
    text = template.prompt(messages, tools, documents)
    turns = view.turns if view.last_answer is not None else []
    return _Text(view, text, [], None, [(a, b) for a, b in turns if view.text[:b] == text[:b]])


def _on_purpose(whole: RenderedChat, place: Field) -> bool:
    """Whether a field is left out because of its place: a template that knows it shows it last."""
    if place.message is None:
        return False
    role = whole.messages[place.message]["role"]
    if place.name in BOOKKEEPING or (place.name == "name" and role == "tool"):
        return True
    return whole.upto(place.message).shows(place)


def _span(view: RenderedChat, i: int) -> Span | None:
    """The span of message ``i``; for an answer, from the question to what closes the turn."""
    start, end = view.start(i), view.end(i)
    if start is None or end is None or not start < end:
        return None
    return (start, end) if view.inside(i, start, end) else None


def _without(spans: Sequence[Span], length: int) -> list[Span]:
    """The spans of a text that remain when ``spans`` are removed."""
    left, start = [], 0
    for begin, end in sorted(spans):
        left.append((start, begin))
        start = end
    return [(a, b) for a, b in [*left, (start, length)] if a < b]
