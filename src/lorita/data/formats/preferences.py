"""Preference data: of a preferred and a rejected answer only the preferred one is trained.

Pairs (``chosen`` and ``rejected``, in the layouts of TRL, HH-RLHF, UltraFeedback and OpenAI) and
single judged answers (KTO's ``completion`` with a ``label``). Training on preferences themselves
(DPO, KTO) is not what lorita does, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lorita.data.formats.chats import is_sharegpt, looks_like_chat
from lorita.data.formats.messages import ROLE_KEYS, ROLES
from lorita.data.formats.reading import Reading
from lorita.data.formats.transcripts import is_transcript
from lorita.data.formats.written_chats import decoded
from lorita.data.origin import Origin, Part
from lorita.data.sources.source import Source
from lorita.errors import DataError

ANSWERS = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("response_chosen", "response_rejected"),
    ("chosen_answer", "rejected_answer"),
    ("chosen_messages", "rejected_messages"),
    ("preferred", "rejected"),
    ("preferred", "dispreferred"),
    ("accepted", "rejected"),
    ("preferred_output", "non_preferred_output"),
)
"""Columns of a preferred and a rejected answer."""
PROMPTS = (
    "prompt", "question", "instruction", "query", "input", "messages", "conversations",
    "conversation", "context",
)  # fmt: skip
JUDGED, JUDGEMENTS = ("completion", "messages", "conversations"), ("label", "kto_tag")
"""Columns of single answers, and of what was thought of them."""
LABELS = {True: True, False: False, "true": True, "false": False}
"""Labels as JSON has them, or as text; 1 and 0 are equal to them."""


def answers_of(columns: Sequence[str]) -> tuple[str, str] | None:
    """The columns of the preferred and the rejected answers, if there are such."""
    return next((pair for pair in ANSWERS if set(pair) <= set(columns)), None)


def preference_readings(
    sample: Mapping[str, list[Any]], columns: Sequence[str]
) -> Iterator[Reading]:
    """The reading of preferred answers, with their prompt where it lies in another column."""
    pair = answers_of(columns)
    if pair is None:
        return
    chosen, rejected = pair
    note = (
        f"{chosen!r} holds the preferred answers and is trained; {rejected!r} is not "
        "(lorita does not train on preferences)"
    )
    firsts = {c: next((x for x in sample[c] if x is not None), None) for c in columns}
    prompt = next((c for c in PROMPTS if c in columns), None)
    extra = {name: name for name in ("system", "tools") if name in columns}
    answer = firsts[chosen]
    if prompt is not None and _is_answer_alone(answer):
        yield _pair(prompt, chosen, firsts, extra, note)
    elif looks_like_chat(answer) or is_transcript(answer):
        kind = "sharegpt" if is_sharegpt(answer) else "messages"
        role = "messages" if kind == "messages" else "conversations"
        yield Reading(kind, {role: chosen, **extra}, note=note)
    else:
        yield Reading("text", {"text": chosen}, note=note)


def _pair(
    prompt: str, chosen: str, firsts: Mapping[str, Any], extra: Mapping[str, str], note: str
) -> Reading:
    """The prompt and the preferred answer; as alpaca where a system message or input belongs."""
    system = {name: name for name in extra if name == "system"}
    plain = isinstance(firsts[chosen], str) and isinstance(firsts[prompt], str)
    chats = looks_like_chat(firsts[prompt]) or looks_like_chat(firsts[chosen])
    inputs = {"input": "input"} if prompt == "instruction" and "input" in firsts else {}
    if plain and not chats and not is_transcript(firsts[prompt]) and (inputs or system):
        roles = {"instruction": prompt, "output": chosen, **inputs, **system}
        return Reading("alpaca", roles, note=note)
    roles = {"prompt": prompt, "completion": chosen, **(extra if chats else {})}
    return Reading("prompt-completion", roles, note=note)


def _is_answer_alone(cell: object) -> bool:
    """Whether a cell is an answer without its prompt: text, a turn, or turns of the assistant."""
    turns = decoded(cell)
    turns = [turns] if isinstance(turns, Mapping) else turns
    if isinstance(turns, list) and turns and isinstance(turns[0], Mapping):
        said = next((turns[0][key] for key in ROLE_KEYS if key in turns[0]), None)
        return ROLES.get(str(said).lower()) == "assistant"
    return isinstance(cell, str) and not is_transcript(cell)


def preferred_rows(source: Source) -> Source:
    """The rows without those whose completion is labelled as bad; the source, if none are judged.

    Raises ``DataError`` if every row is labelled as bad, or if some have no label.
    """
    columns = set(source.columns)
    column = next((name for name in JUDGEMENTS if name in columns), None)
    if column is None or not columns & set(JUDGED):
        return source
    sample = source.sample[column]
    if not sample or any(_label(cell) is None for cell in sample):
        return source
    if columns != {"prompt", "completion", column} and any(type(cell) is int for cell in sample):
        return source  # a class, perhaps: KTO's own labels are true and false
    cells = source.only([column]).cells(range(len(source.rows)))
    labels = [_label(cell) for cell in cells[column]]
    if None in labels:
        place = ", ".join(source.origin.places([labels.index(None)]))
        raise DataError(f"{place}: its {column} is neither true nor false, as those of other rows")
    good = [row for row, label in enumerate(labels) if label]
    left = len(labels) - len(good)
    if not good:
        raise DataError(f"{source.origin}: every row has the {column} false: no answer to train on")
    if not left:
        return source
    origin = Origin((Part(f"{source.origin} ({column} true)", len(good)),))
    note = f"{left:,} of {len(labels):,} rows have the {column} false (bad answers): not used"
    return replace(
        source, rows=source.rows.select(good), origin=origin, notes=(*source.notes, note)
    )


def _label(cell: object) -> bool | None:
    key = cell.strip().lower() if isinstance(cell, str) else cell
    return LABELS.get(key) if isinstance(key, (bool, int, str)) else None
