"""Tool calls in answers, found in the form in which the model's own chat template writes them.

A call is put through the template, and what stands around its JSON is how a model that was trained
with it marks its calls: ``<tool_call>`` and the like, or nothing. Small models forget the marks: an
answer that is nothing but calls of known tools, in a code block or bare, is read as calls, too.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lorita.data.tokens.chat_template import TemplateError
from lorita.data.tokens.template_forms import CALLS, NAME, QUESTION, TOOL
from lorita.serving.text_pieces import StopTexts

if TYPE_CHECKING:
    from lorita.data.tokens.chat_template import ChatTemplate

_READER = json.JSONDecoder()
_FENCE = "```"
_OPENING = re.compile(r"\s*(?:```(?:json)?\s*)?[{\[]")
"""How an answer begins that is nothing but calls."""
_OPENINGS = [(_FENCE + "json")[:size] for size in range(8)]
"""What an answer may be so far that is going to begin in this way."""


@dataclass(frozen=True)
class CallForm:
    """How a template writes calls: ``mark`` stands before each JSON value; it may be empty."""

    mark: str
    end: str = ""


def call_form(template: ChatTemplate) -> CallForm | None:
    """The form of the template's calls; None if it writes none, or not as JSON."""
    found = _written_call(template)
    return None if found is None else CallForm(found[0].strip(), found[2].strip())


def call_example(template: ChatTemplate) -> tuple[str, Any] | None:
    """What stands before a call, and the JSON of one, as the template writes them; or None."""
    found = _written_call(template)
    return None if found is None else found[:2]


def _written_call(template: ChatTemplate) -> tuple[str, Any, str] | None:
    """The text before a call, its JSON, and the text behind it."""
    used = template.with_tools([TOOL])
    try:
        prompt = used.prompt([QUESTION], [TOOL])
        text = used.render([QUESTION, CALLS], [TOOL])
    except TemplateError:
        return None
    said = text[len(prompt) :] if text.startswith(prompt) else ""
    found = _first_json(said)
    if found is None or not any(name == NAME for name, _ in _calls_in(found[0])):
        return None
    value, start, stop = found
    end = said[stop:]
    if template.end_of_turn and template.end_of_turn in end:
        end = end.partition(template.end_of_turn)[0]
    return said[:start], value, end


def _first_json(text: str) -> tuple[Any, int, int] | None:
    """The first JSON object or list in a text, and where it stands."""
    for place, letter in enumerate(text):
        if letter in "{[":
            try:
                value, stop = _READER.raw_decode(text, place)
            except (ValueError, RecursionError):
                continue
            return value, place, stop
    return None


def _calls_in(value: Any) -> list[tuple[str, str]]:
    """Names and arguments (JSON text) of the calls that a JSON value holds; none if it is other."""
    found = []
    for call in value if isinstance(value, list) else [value]:
        inner = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            return []
        arguments = inner.get("arguments", inner.get("parameters", {}))
        if isinstance(arguments, dict):
            arguments = json.dumps(arguments, ensure_ascii=False)
        if not isinstance(arguments, str):
            return []
        found.append((inner["name"], arguments))
    return found


@dataclass
class CallReader:
    """Separates calls from the text of one answer, as it arrives. ``names`` are the known tools.

    What is passed on by ``add`` is certainly no call. Text that begins as a call does, and is none,
    comes with ``end``.
    """

    form: CallForm
    names: Collection[str]
    _held: str = ""
    _marks: StopTexts = field(init=False)
    _begun: bool = field(default=False, init=False)
    _may_be_bare: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self._marks = StopTexts([self.form.mark] if self.form.mark else [])

    def begin(self) -> None:
        """A call has begun: what follows is its JSON."""
        self._begun, self._held = True, self.form.mark

    def add(self, piece: str) -> str:
        """What can be shown of the answer now."""
        if self._begun:
            self._held += piece
            return ""
        if self._may_be_bare:
            self._held += piece
            if _OPENING.match(self._held) or self._held.strip() in _OPENINGS:
                return ""
            piece, self._held, self._may_be_bare = self._held, "", False
        before = self._marks.held + piece
        shown = self._marks.add(piece)
        if self._marks.found is not None:
            self._begun, self._held = True, before[len(shown) :]
        return shown

    def end(self) -> tuple[str, list[dict[str, Any]]]:
        """The rest of the text, and the calls in OpenAI's shape."""
        rest = self._marks.rest() + self._held
        calls = self._read(rest)
        return ("", calls) if calls else (rest, [])

    def _read(self, text: str) -> list[dict[str, Any]]:
        found: list[tuple[str, str]] = []
        mark, end = self.form.mark, self.form.end
        left = text.strip()
        if not mark or not left.startswith(mark):
            mark, end = "", ""
            if left.startswith(_FENCE):
                left = left.removeprefix(_FENCE).removeprefix("json").removesuffix(_FENCE)
        while left.strip():
            if mark and not left.lstrip().startswith(mark):
                break
            left = left.lstrip()[len(mark) :]
            first = _first_json(left)
            if first is None or left[: first[1]].strip():
                return []
            calls = _calls_in(first[0])
            if not calls or any(name not in self.names for name, _ in calls):
                return []
            found += calls
            left = left[first[2] :].lstrip().removeprefix(end)
        return [
            {
                "id": f"call_{secrets.token_hex(12)}",
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
            for name, arguments in found
        ]
