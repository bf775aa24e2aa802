"""Conversations written as one text: ``\\n\\nHuman: ...\\n\\nAssistant: ...``, as in HH-RLHF."""

from __future__ import annotations

import re
from typing import Any

ROLES = {"Human": "user", "Assistant": "assistant"}
_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")


def is_transcript(cell: object) -> bool:
    """Whether a text is such a conversation: it begins with a turn and has one of each side."""
    if not isinstance(cell, str):
        return False
    first = _TURN.match(cell)
    return first is not None and {turn[1] for turn in _TURN.finditer(cell)} == set(ROLES)


def turns_of(cell: str) -> list[dict[str, Any]]:
    """The turns of a conversation; an open ``Assistant:`` at the end is left out."""
    marks = list(_TURN.finditer(cell))
    ends = [mark.start() for mark in marks[1:]] + [len(cell)]
    turns = [
        {"role": ROLES[mark[1]], "content": cell[mark.end() : end].strip()}
        for mark, end in zip(marks, ends, strict=True)
    ]
    if turns and turns[-1] == {"role": "assistant", "content": ""}:
        turns.pop()
    return turns
