"""Which prompts base and tuned model are compared on: prompts of rows, or the starts of texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import islice

from lorita.data.rows import Row, Text

LONG_PROMPT = 400
"""Characters; longer prompts are used only if there are not enough shorter ones."""


def prompts_of(
    rows: Sequence[Row],
    count: int = 3,
    fits: Callable[[str], bool] | None = None,
    until: str | None = None,
) -> list[str]:
    """Up to ``count`` prompts for a comparison: those of the rows, or the starts of plain texts.

    The starts end with the last ``until`` in the text, if it has one.
    Prompts that do not fit the model (``fits``) are skipped; if none fits, their starts are used.
    """
    texts = [row.text for row in rows if isinstance(row, Text)]
    if texts and until is not None and any(until in text for text in texts):
        starts = (text[: text.rindex(until) + len(until)] for text in texts if until in text)
        fitting = (start for start in dict.fromkeys(starts) if fits is None or fits(start))
        return list(islice(fitting, count)) or text_starts(texts, count)
    if texts:
        return text_starts(texts, count)
    prompts = [row.prompt for row in rows if not isinstance(row, Text) and row.prompt.strip()]
    prompts.sort(key=lambda prompt: len(prompt) > LONG_PROMPT)
    fitting = (prompt for prompt in dict.fromkeys(prompts) if fits is None or fits(prompt))
    return list(islice(fitting, count)) or text_starts(prompts, count)


def text_starts(texts: Sequence[str], count: int = 3) -> list[str]:
    """The start of each text, up to ``count`` different ones.

    A start is the first sentence if that is short, else the first 8 words at most.
    """
    starts = (_start(text) for text in texts)
    return list(dict.fromkeys(start for start in starts if start))[:count]


def _start(text: str) -> str:
    line = text.strip().splitlines()[0]
    sentence = re.match(r".{8,120}?[.!?:](?=\s|$)", line)
    if sentence and len(sentence.group()) < len(text.strip()):
        return sentence.group()
    words = line.split()
    # Half of a short text at most, so that there is something left to continue.
    return " ".join(words[: min(8, max(1, len(words) // 2))])
