"""What the columns mean: the reading that is chosen, and the others that were possible.

Nothing is guessed silently: the result says which column fed which role, which were not used, and
how to ask for another reading. The rows themselves are read in ``readers``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from lorita.data.formats.cells import holds_text, require_column
from lorita.data.formats.chat_columns import (
    TOOL_COLUMNS,
    beside_chats,
    chat_reading,
    chat_readings,
    holds_chat,
    refuse_unusable,
    without,
)
from lorita.data.formats.chats import looks_like_chat
from lorita.data.formats.preferences import answers_of, preference_readings
from lorita.data.formats.reading import Reading
from lorita.data.sources.source import Source
from lorita.errors import DataError

TEXT_COLUMNS = ("text", "prompt", "content")
"""Columns that hold the text by default, in order of preference."""
PAIR_COLUMNS = (
    ("prompt", "completion"),
    ("question", "answer"),
    ("input", "target"),
    ("input", "output"),
    ("source", "target"),
    ("query", "response"),
    ("query", "answer"),
    ("question", "response"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("prompt", "output"),
    ("instruction", "completion"),
    ("user", "assistant"),
    ("inputs", "targets"),
)
"""Columns known to hold a prompt and its completion, the likeliest first."""
LISTS = ("messages", "conversations")
"""Columns whose text is not taken for a text to train: it should be a list."""
ALPACA_OUTPUTS, ALPACA_INPUTS = ("output", "response"), ("input", "context")
LONGEST_NAME_WORDS = 4
"""A column whose name has more words is likely a first row that was taken for the header."""
MOST_OTHERS = 2
"""Other possible readings mentioned in the explanation."""


@dataclass(frozen=True)
class Wanted:
    """What the user specified about the columns; None means unspecified."""

    format: str | None = None
    text_field: str | None = None
    text_template: str | None = None
    messages_field: str | None = None
    prompt_field: str | None = None
    completion_field: str | None = None
    ignore_fields: tuple[str, ...] = ()

    @property
    def names_text(self) -> bool:
        """Whether the columns of text were named, so that what they hold is meant as text."""
        return (self.text_field or self.text_template or self.prompt_field) is not None


def choose_reading(source: Source, wanted: Wanted) -> tuple[Reading, list[Reading]]:
    """The reading to use, and the others that the columns would allow.

    Raises ``DataError`` if the columns allow none, or if only the user can choose.
    """
    possible = list(_readings(source))
    taken = _asked_for(source, wanted, possible)
    if taken is None:
        fitting = [r for r in possible if wanted.format in (None, r.format)]
        if not fitting:
            raise _no_reading(source, wanted.format)
        taken = fitting[0]
    if taken.template is not None:
        return taken, []
    taken = without(taken, wanted.ignore_fields)
    if taken.format != "text":
        refuse_unusable(source, wanted.ignore_fields)
    return taken, [reading for reading in possible if reading.flags != taken.flags]


def understood(
    source: Source, taken: Reading, others: list[Reading], remarks: Sequence[str] = ()
) -> str:
    """The reading in a sentence: columns used and unused, notes, and other possible readings.

    ``remarks`` are what was noticed when the cells were read.
    """
    used = set(taken.roles.values())
    left = [column for column in source.columns if column not in used]
    parts = [str(taken)]
    if left and taken.template is None:
        parts.append(f"not used: {', '.join(left)}")
    parts += [*source.notes, *remarks]
    parts += [f"could also be read as {other} ({other.flags})" for other in others[:MOST_OTHERS]]
    return "; ".join(parts)


def _asked_for(source: Source, wanted: Wanted, possible: list[Reading]) -> Reading | None:
    """The reading the user specified by columns or template; None if neither is given."""
    if wanted.text_template is not None:
        return Reading("text", template=wanted.text_template)
    if wanted.text_field is not None:
        require_column(source, wanted.text_field)
        return Reading("text", {"text": wanted.text_field})
    if wanted.messages_field is not None:
        require_column(source, wanted.messages_field)
        return chat_reading(source.sample, source.columns, wanted.messages_field)
    if wanted.prompt_field is None and wanted.completion_field is None:
        return None
    given = {"prompt": wanted.prompt_field, "completion": wanted.completion_field}
    for column in filter(None, given.values()):
        require_column(source, column)
    for reading in possible:
        if reading.format == "prompt-completion":
            known = reading.roles
            if all(column in (None, known[role]) for role, column in given.items()):
                return reading
    rest = [c for c in _text_columns(source) if c not in given.values()]
    missing = [role for role, column in given.items() if column is None]
    if missing and len(rest) != 1:
        raise DataError(
            f"{source.origin}: which column is the {missing[0]}? "
            f"The columns are {', '.join(source.columns)}",
            hint=f"Name it with --{missing[0]}-field NAME.",
        )
    roles = {role: column or rest[0] for role, column in given.items()}
    return Reading("prompt-completion", roles)


def _readings(source: Source) -> Iterator[Reading]:
    """Every reading the columns allow, the likeliest first; never one of rejected answers."""
    sample = source.sample
    answers = answers_of(source.columns)
    yield from preference_readings(sample, source.columns)
    columns = [c for c in source.columns if answers is None or c not in answers]
    yield from chat_readings(sample, columns)
    output = next((c for c in ALPACA_OUTPUTS if c in columns), None)
    if "instruction" in columns and output is not None:
        roles = {"instruction": "instruction", "output": output}
        extra = next((c for c in ALPACA_INPUTS if c in columns), None)
        roles |= {"input": extra} if extra else {}
        roles |= {name: name for name in ("system", "history") if name in columns}
        yield Reading("alpaca", roles)
    for prompt, completion in PAIR_COLUMNS:
        if prompt in columns and completion in columns:
            roles = {"prompt": prompt, "completion": completion}
            if any(holds_chat(cell) for name in roles.values() for cell in sample[name]):
                roles |= beside_chats(columns)
            yield Reading("prompt-completion", roles)
    texts = [c for c in _text_columns(source) if c in columns]
    named = next((c for c in TEXT_COLUMNS if c in columns), None)
    only = texts[0] if len(texts) == 1 else columns[0] if len(columns) == 1 else None
    if named is None and (only in LISTS or _doubtful(sample)):
        only = None
    text = named or only
    if text is not None and not any(holds_chat(cell) for cell in sample[text]):
        yield Reading("text", {"text": text})
        if len(texts) == 2 and text in texts and named:
            prompt = next(c for c in texts if c != text)
            yield Reading("prompt-completion", {"prompt": prompt, "completion": text})


def _doubtful(sample: Mapping[str, list[Any]]) -> bool:
    """Whether a single column of text may not be what it seems (``_doubts`` says why)."""
    return bool(_nested(sample)) or _no_header(list(sample))


def _no_header(columns: Sequence[str]) -> bool:
    """Whether the names of the columns look like a row: one is a sentence, or a number."""
    names = [name for name in columns if not name.startswith("Unnamed: ")]
    numbers = [name.isdigit() for name in names]
    long = any(len(name.split()) > LONGEST_NAME_WORDS for name in names)
    return long or (any(numbers) and not all(numbers))


def _nested(sample: Mapping[str, list[Any]]) -> list[str]:
    """The columns of objects in lists that are no chats, such as SQuAD's paragraphs."""
    return [
        column
        for column, cells in sample.items()
        if column not in TOOL_COLUMNS
        and any(isinstance(cell, list) and cell and isinstance(cell[0], Mapping) for cell in cells)
        and not any(looks_like_chat(cell) for cell in cells)
    ]


def _text_columns(source: Source) -> list[str]:
    sample = source.sample
    return [column for column in source.columns if holds_text(sample[column])]


NEEDED = {
    "text": "a column of text",
    "prompt-completion": "a prompt and a completion",
    "messages": "a column of messages, each with role and content",
    "sharegpt": "a column of conversations, each turn with from and value",
    "alpaca": "instruction and output (and input)",
}


def _no_reading(source: Source, format: str | None) -> DataError:
    columns = ", ".join(source.columns)
    if format is not None and format != "text":
        hint = None
        if format == "prompt-completion":
            hint = "Name the columns: --prompt-field NAME --completion-field NAME."
        return DataError(
            f"{source.origin}: {format} needs {NEEDED[format]}; the columns are {columns}",
            hint=hint,
        )
    hint = 'Name it with --text-field NAME or --text-template "{a}: {b}".'
    texts = _text_columns(source)
    if format is None and len(texts) >= 2:
        hint += (
            "\nIf one is a question and another its answer: "
            f"--prompt-field {quote(texts[0])} --completion-field {quote(texts[1])}."
        )
    return DataError(
        f"{source.origin}: which column holds the text? The columns are {columns}",
        hint=hint + _doubts(source),
    )


def _doubts(source: Source) -> str:
    """Why a single column of text was not taken."""
    nested = _nested(source.sample)
    if nested:
        return (
            f"\nA row holds several examples: {', '.join(nested)} has lists of objects. "
            "Make each example a row, with its prompt and its answer."
        )
    named = next((name for name in LISTS if name in source.columns), None)
    if named is not None:
        return f"\n{named!r} holds text that is no list of messages."
    if _no_header(source.columns):
        return "\nIf line 1 is a row rather than column names, add a header line above it."
    return ""
