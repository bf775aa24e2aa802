"""Tells texts that are chats already rendered from ordinary text.

Role markers in a text (``<|im_start|>user``, ``### Human:``) can mean two things: control tokens of
the model, or words to learn. lorita does not guess: it asks, where many rows have them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from lorita.data.quality.problems import Problem, problem, spelled
from lorita.data.rows import Chat, Pair, Row, Text
from lorita.data.tokens.control_tokens import ControlTokens

LOOKED_AT = 1000
"""Rows that are searched."""
ENOUGH = 0.2
"""The fraction of rows from which on they are taken for rendered chats."""
_USER, _ANSWERS = "user|human|prompter", "assistant|model|bot|gpt|ai"
_MARKERS = [
    (re.compile(question, re.IGNORECASE), re.compile(answer, re.IGNORECASE))
    for question, answer in (
        (r"<\|im_start\|>\s*user", r"<\|im_start\|>\s*assistant"),
        (r"<\|start_header_id\|>\s*user", r"<\|start_header_id\|>\s*assistant"),
        (r"<\|start\|>\s*user", r"<\|start\|>\s*assistant"),
        (r"<(start_of_turn|\|turn)>\s*user", r"<(start_of_turn|\|turn)>\s*model"),
        (rf"<[|｜]({_USER})(_token)?[|｜]>", rf"<[|｜]({_ANSWERS}|chatbot_token)[|｜]>"),
        (r"\[INST\]", r"\[/INST\]"),
        (
            rf"#{{2,4}} *({_USER}|instruction|question) *:",
            rf"#{{2,4}} *({_ANSWERS}|response|answer|output) *:",
        ),
        (rf"^(\W?\W?)({_USER})\1 *:", rf"(^|\s)(\W?\W?)({_ANSWERS})\2 *:"),
    )
]


@dataclass(frozen=True)
class Asked:
    """What the user has said about it: ``--format text``, a template, ``--control-tokens``."""

    as_text: bool = False
    template: bool = False
    control_tokens: bool = False


def rendered_problem(
    rows: Sequence[Row], numbers: Sequence[int], control: ControlTokens, asked: Asked
) -> Problem | None:
    """The problem that rows look like rendered chats, if the user has not said what they mean.

    ``asked.template`` says that prompts are to be put into a chat template.
    """
    found: dict[int, str] = {}
    looked = 0
    for number, row in zip(numbers, islice(rows, LOOKED_AT), strict=False):
        looked += 1
        marker = next(_markers_in(row), None) if not isinstance(row, Chat) else None
        if marker is not None:
            found[number] = marker
    if not found or len(found) < ENOUGH * looked:
        return None
    marker = next(iter(found.values()))
    tokens = any(control.find(text) for text in found.values())
    pairs = isinstance(rows[0], Pair)
    known = asked.control_tokens if tokens else asked.as_text or pairs
    if known and not (pairs and asked.template):
        return None
    return problem(
        f"a chat that is already rendered: {marker!r}",
        list(found),
        _fix(tokens=tokens, in_template=pairs and asked.template),
        stops=True,
    )


def spelled_problem(
    rows: Sequence[Row], numbers: Sequence[int], new: ControlTokens
) -> Problem | None:
    """The problem that rows spell control tokens that are ``new``, which may mean either."""
    looked = zip(numbers, islice(rows, LOOKED_AT), strict=False)
    found = {number: token for number, row in looked if (token := spelled(row, new))}
    if not found:
        return None
    return problem(
        f"text that spells the new control token {next(iter(found.values()))!r}",
        list(found),
        "Say what it means there: --control-tokens tokens (the token) or text (ordinary text). A "
        "word that people write is no control token: --add-tokens.",
        stops=True,
    )


def _markers_in(row: Text | Pair) -> Iterator[str]:
    """The marker of a question that is followed by that of an answer."""
    text = row.text if isinstance(row, Text) else f"{row.prompt}\n{row.completion}"
    for question, answer in _MARKERS:
        asked = question.search(text)
        if asked and answer.search(text, asked.end()):
            yield asked[0].strip()


def _fix(*, tokens: bool, in_template: bool) -> str:
    plain = "--chat-template none" if in_template else "--format text"
    if not tokens:
        said = f"Say that they are to be trained on as they are ({plain})"
    else:
        also = f"{plain} and " if in_template else ""
        said = (
            f"Say what the markers mean: {also}--control-tokens tokens (the model's own control "
            "tokens) or text (ordinary text)"
        )
    return f"{said}, or give the rows as messages: only then are the answers alone trained."
