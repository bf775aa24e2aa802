"""What base and tuned model are asked: prompts of rows, or the starts of texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import islice

from lorita.data.rows import Row, Text

LONG_PROMPT = 400
"""Characters; longer prompts are asked only where there is nothing shorter."""


def prompts_of(
    rows: Sequence[Row], count: int = 3, fits: Callable[[str], bool] | None = None
) -> list[str]:
    """What to ask for a comparison: prompts as they stand, or the starts of plain texts.

    Prompts that do not fit the model are passed over; where none fits, their starts are asked.
    """
    texts = [row.text for row in rows if isinstance(row, Text)]
    if texts:
        return text_starts(texts, count)
    prompts = [row.prompt for row in rows if not isinstance(row, Text) and row.prompt.strip()]
    prompts.sort(key=lambda prompt: len(prompt) > LONG_PROMPT)
    fitting = (prompt for prompt in dict.fromkeys(prompts) if fits is None or fits(prompt))
    return list(islice(fitting, count)) or text_starts(prompts, count)


def text_starts(texts: Sequence[str], count: int = 3) -> list[str]:
    """The starts of the first ``count`` texts: the first sentence if it is short, else 8 words."""
    starts = (_start(text) for text in texts)
    return list(dict.fromkeys(start for start in starts if start))[:count]


def _start(text: str) -> str:
    line = text.strip().splitlines()[0]
    sentence = re.match(r".{8,120}?[.!?:](?=\s|$)", line)
    if sentence and len(sentence.group()) < len(text.strip()):
        return sentence.group()
    words = line.split()
    # A short text still leaves the model something to say.
    return " ".join(words[: min(8, max(1, len(words) // 2))])
