"""The page's language: its texts, numbers and times, and the mistakes that it explains itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lorita.studio.texts import english, spanish
from lorita.system.durations import duration
from lorita.system.memory import gigabytes


class Told(Exception):
    """A mistake of the user that the page explains in its language: the ``key`` of a text."""

    def __init__(self, key: str, **values: Any) -> None:
        self.key, self.values = key, values
        super().__init__(key)


@dataclass(frozen=True)
class Words:
    """One language; calling it with a key gives the text, with the values filled in."""

    language: str
    texts: Mapping[str, str]
    decimal: str = "."
    thousands: str = ","

    def __call__(self, key: str, **values: Any) -> str:
        """The text of ``key``; whole numbers get separators."""
        said = {n: self.count(v) if isinstance(v, int) else v for n, v in values.items()}
        return self.texts[key].format(**said)

    def count(self, number: int) -> str:
        """A whole number with separators of thousands."""
        return f"{number:,}".replace(",", self.thousands)

    def figure(self, value: float, digits: int = 3, *, sign: bool = False) -> str:
        """A number with so many decimals; with ``sign``, also a plus."""
        if not math.isfinite(value):
            return "–"
        text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
        return text.replace(".", self.decimal)

    def time(self, seconds: float) -> str:
        """A duration such as ``3 min 20 s``."""
        return duration(seconds).replace(".", self.decimal)

    def size(self, size: int) -> str:
        """Bytes as megabytes, or as gigabytes from one on."""
        text = gigabytes(size) if size >= 1e9 else f"{size / 1e6:.{0 if size >= 1e7 else 2}f} MB"
        return text.replace(".", self.decimal)


ENGLISH = Words("en", english.TEXTS)
SPANISH = Words("es", spanish.TEXTS, decimal=",", thousands="\N{NO-BREAK SPACE}")
LANGUAGES = {"en": ENGLISH, "es": SPANISH}


def preferred(accept_language: str) -> Words:
    """The first of our languages in a browser's ``Accept-Language``; else English."""
    for part in accept_language.split(","):
        code = part.partition(";")[0].strip().lower().partition("-")[0]
        if code in LANGUAGES:
            return LANGUAGES[code]
    return ENGLISH
