"""Checks of a single text: invisible characters, wrong encoding, markup, repetition.

Each check takes a text and returns a short phrase for what it found, or None.
"""

from __future__ import annotations

import re
import unicodedata
import zlib

# Joiners (U+200C, U+200D) and direction marks belong to Persian, Indic scripts, Hebrew and emoji.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u2028\u2029\u202a-\u202e\u2060-\u2064"
    "\u2066-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_TAG = re.compile(
    r"</?(?:a|article|b|blockquote|body|br|button|code|div|em|font|footer|form|h[1-6]|head|header"
    r"|hr|html|i|iframe|img|input|li|link|meta|nav|ol|option|p|pre|script|section|select|small"
    r"|span|strong|style|sub|sup|svg|table|tbody|td|textarea|th|thead|tr|u|ul|video)"
    r"(?:\s[^<>]{0,300})?\s?/?>"
    r"|&(?:amp|lt|gt|quot|apos|nbsp|[lr]squo|[lr]dquo|hellip|[mn]dash|#\d{1,6}|#x[0-9a-f]{1,6});",
    re.IGNORECASE,
)
_RUN = re.compile(r"([^\s\-_=*#.~+])\1{39,}")
LOOP_CHARACTERS, LOOP_TIMES, LOOP_WORDS = 200, 6, 40


def invisible(text: str) -> str | None:
    """Control characters, zero-width spaces and other invisible characters."""
    match = _INVISIBLE.search(text)
    if match is None:
        return None
    code = ord(match[0])
    control = {0x0D: "CARRIAGE RETURN", 0x00: "NULL", 0x1B: "ESCAPE"}.get(code, "CONTROL")
    return f"U+{code:04X} {unicodedata.name(match[0], control)}"


def mojibake(text: str) -> str | None:
    """Text decoded with the wrong encoding, by the patterns of ``ftfy`` and U+FFFD."""
    if text.isascii():
        return None
    if "\ufffd" in text:
        return "U+FFFD REPLACEMENT CHARACTER"
    from ftfy.badness import BADNESS_RE

    match = BADNESS_RE.search(text)
    return _around(text, match.start(), match.end()) if match else None


def markup(text: str) -> str | None:
    """HTML tags and entities; returns the first one."""
    match = _TAG.search(text)
    return match[0] if match else None


def repetition(text: str) -> str | None:
    """A character, or a phrase of up to 40 words, repeated over and over."""
    run = _RUN.search(text)
    if run:
        return f"{run[1]!r} {len(run[0])} times"
    if len(text) < LOOP_CHARACTERS:
        return None
    # A cheap test first: a text with long loops compresses far better than any other.
    raw = text.encode("utf-8", "surrogatepass")
    if len(zlib.compress(raw, 1)) > 0.4 * len(raw):
        return None
    words = text.split()
    for period in range(1, LOOP_WORDS + 1):
        length = 0
        for i in range(period, len(words)):
            length = length + 1 if words[i] == words[i - period] else 0
            times = length // period + 1
            if times < LOOP_TIMES:
                continue
            phrase = " ".join(words[i - period + 1 : i + 1])
            if times * (len(phrase) + 1) >= LOOP_CHARACTERS:
                return f"{phrase[:40]!r} at least {times} times"
    return None


def _around(text: str, start: int, end: int) -> str:
    return repr(" ".join(text[max(start - 10, 0) : end + 10].split()))
