"""lorita's own messages in the page's language; those that it does not know there, in English.

What stays in English is marked as such, for screen readers and for browsers that translate, and
below such messages stands one line that says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from markupsafe import Markup

from lorita.studio.texts.spanish_messages import MESSAGES
from lorita.studio.words import Words

_FIELD = re.compile(r"\{(\w+)\}")
_CATALOGUES = {"es": MESSAGES}
COUNTS, NUMBERS = ("n", "rows", "other"), r"[\d.,… ]+"
"""Fields that stand for numbers only."""
MESSAGE = "what"
"""The field that stands for another message, which must be known as well."""


def translated(words: Words, message: str) -> str | None:
    """A message in the page's language; None if a line of it is known in English only.

    What a field stands for is looked up as well, so that a message may consist of others.
    """
    if words.language == "en":
        return message
    lines = [_line(words.language, line) for line in message.split("\n")]
    return None if None in lines else "\n".join(filter(None, lines))


def said(words: Words, message: str) -> Markup:
    """A message as HTML; what stays in English is marked as English."""
    known = translated(words, message)
    if known is not None:
        return Markup("{}").format(known)
    return Markup('<span lang="en">{}</span>').format(message)


def language_remark(words: Words, messages: Iterable[str]) -> Markup:
    """The line that says that some of these messages are in English; empty if none is."""
    if all(translated(words, message) is not None for message in messages):
        return Markup("")
    return Markup('<p class="quiet">{}</p>').format(words("in_english"))


def said_list(words: Words, messages: Iterable[str], *, kind: str = "") -> Markup:
    """Messages as a list, with the line on their language."""
    texts = list(messages)
    lines = Markup("").join(Markup("<li>{}</li>").format(said(words, text)) for text in texts)
    return Markup('<ul class="{}">{}</ul>{}').format(kind, lines, language_remark(words, texts))


def _line(language: str, line: str) -> str | None:
    for pattern, text in _patterns(language):
        found = pattern.fullmatch(line)
        if found is None:
            continue
        known = {name: _line(language, value) for name, value in found.groupdict().items()}
        if known.get(MESSAGE, "") is not None:
            return text.format_map({**found.groupdict(), **{k: v for k, v in known.items() if v}})
    return None


@lru_cache
def _patterns(language: str) -> list[tuple[re.Pattern[str], str]]:
    """The catalogue as patterns; the first letter of a message may be large or small."""
    found = []
    for english, text in _CATALOGUES[language].items():
        parts = _FIELD.split(english)
        pattern = "".join(
            f"(?P<{part}>{NUMBERS if part in COUNTS else '.+?'})" if i % 2 else re.escape(part)
            for i, part in enumerate(parts)
        )
        if not english.startswith("{"):
            first = english[0]
            pattern = f"[{first.lower()}{first.upper()}]" + pattern[len(re.escape(first)) :]
        found.append((re.compile(pattern), text))
    return found
