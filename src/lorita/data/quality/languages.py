"""The languages of rows, identified by ``py3langid`` (Lui and Baldwin's langid, 97 languages)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

SURE = 0.9
ENOUGH_LETTERS = 80
"""Texts with fewer letters are too easily misidentified."""
_LETTERS = re.compile(r"[^\W\d_]")


def languages(texts: Iterable[tuple[int, str]]) -> dict[str, list[int]]:
    """Language codes with the rows identified with confidence ``SURE``, the commonest first.

    ``texts`` are pairs of row number and text; only the first 2,000 characters count.
    """
    found: dict[str, list[int]] = {}
    for row, text in texts:
        if len(_LETTERS.findall(text[:2000])) >= ENOUGH_LETTERS:
            code, sure = _identifier().classify(text[:2000])
            if sure >= SURE:
                found.setdefault(str(code), []).append(row)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
