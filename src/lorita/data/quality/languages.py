"""Which languages rows are in, by ``py3langid``: Lui and Baldwin's langid, 97 languages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

SURE = 0.9
ENOUGH_LETTERS = 80
"""Shorter texts are too easily mistaken."""
_LETTERS = re.compile(r"[^\W\d_]")


def languages(texts: Iterable[tuple[int, str]]) -> dict[str, list[int]]:
    """Language code to the rows that are surely in it, the commonest first."""
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
