"""What the columns mean: the reading that is chosen, and the others that were possible.

Nothing is guessed silently: the result says which column fed which role, which were not used, and
how to ask for another reading. The rows themselves are read in ``readers``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lorita.data.formats.cells import holds_text, require_column
from lorita.data.formats.chats import is_sharegpt, looks_like_chat
from lorita.data.sources.source import Source
from lorita.errors import DataError

TEXT_COLUMNS = ("text", "prompt", "content")
"""Columns that hold the text by default, in order of preference."""
CHAT_COLUMNS = ("messages", "conversations", "conversation", "chat", "dialogue", "dialog", "turns")
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
ALPACA_OUTPUTS, ALPACA_INPUTS = ("output", "response"), ("input", "context")
TOOL_COLUMNS, DOCUMENT_COLUMNS = ("tools", "functions"), ("documents",)
UNUSABLE_COLUMNS = (
    *("image", "images", "audio", "audios", "video", "videos", "chat_template_kwargs"),
)
"""Columns that belong to a chat, but that lorita cannot give to a model."""
CHATS = ("messages", "sharegpt")
BESIDE = ("system", "tools", "documents")
"""What a chat may have in columns of its own."""
MOST_OTHERS = 2
"""Other possible readings mentioned in the explanation."""


@dataclass(frozen=True)
class Reading:
    """One way to read the columns: a column for each role, or a template over columns.

    ``ignored`` are keys of messages that the user wants to be left out.
    """

    format: str
    roles: Mapping[str, str] = field(default_factory=dict)
    template: str | None = None
    ignored: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.template is not None:
            return f"text from the template {self.template!r}"
        if self.format == "text":
            return f"text from the column {self.roles['text']!r}"
        main = {role: column for role, column in self.roles.items() if role != column}
        columns = ", ".join(f"{role} {column!r}" for role, column in main.items())
        same = ", ".join(repr(column) for role, column in self.roles.items() if role == column)
        return f"{self.format} from {', '.join(part for part in (same, columns) if part)}"

    @property
    def flags(self) -> str:
        """The command-line options that select this reading."""
        if self.format == "text":
            return f"--text-field {self.roles['text']}"
        if self.format == "prompt-completion":
            return (
                f"--prompt-field {self.roles['prompt']} "
                f"--completion-field {self.roles['completion']}"
            )
        return f"--format {self.format}"


@dataclass(frozen=True)
class Wanted:
    """What the user specified about the columns; None means unspecified."""

    format: str | None = None
    text_field: str | None = None
    text_template: str | None = None
    prompt_field: str | None = None
    completion_field: str | None = None
    ignore_fields: tuple[str, ...] = ()


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
    taken = _without(taken, wanted.ignore_fields)
    if taken.format in CHATS:
        _refuse_unusable(source, wanted.ignore_fields)
    return taken, [reading for reading in possible if reading.flags != taken.flags]


def _without(reading: Reading, ignored: tuple[str, ...]) -> Reading:
    """The reading without the columns and keys that the user wants to be left out."""
    kept = {r: c for r, c in reading.roles.items() if r not in BESIDE or c not in ignored}
    return replace(reading, roles=kept, ignored=ignored)


def _refuse_unusable(source: Source, ignored: tuple[str, ...]) -> None:
    found = [
        column
        for column in UNUSABLE_COLUMNS
        if column in source.columns and column not in ignored and any(source.sample[column])
    ]
    if found:
        raise DataError(
            [f"{source.origin}: the column {column!r} cannot be trained on" for column in found],
            hint="lorita trains on the text of chats. To leave these columns out: "
            f"--ignore-fields {','.join(found)}",
        )


def understood(source: Source, taken: Reading, others: list[Reading]) -> str:
    """The reading in a sentence: columns used and unused, notes, and other possible readings."""
    used = set(taken.roles.values())
    left = [column for column in source.columns if column not in used]
    parts = [str(taken)]
    if left and taken.template is None:
        parts.append(f"not used: {', '.join(left)}")
    parts += source.notes
    parts += [f"could also be read as {other} ({other.flags})" for other in others[:MOST_OTHERS]]
    return "; ".join(parts)


def _asked_for(source: Source, wanted: Wanted, possible: list[Reading]) -> Reading | None:
    """The reading the user specified by columns or template; None if neither is given."""
    if wanted.text_template is not None:
        return Reading("text", template=wanted.text_template)
    if wanted.text_field is not None:
        require_column(source, wanted.text_field)
        return Reading("text", {"text": wanted.text_field})
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
    """Every reading the columns allow, the likeliest first."""
    sample = source.sample
    columns = source.columns
    yield from _chat_readings(sample, columns)
    output = next((c for c in ALPACA_OUTPUTS if c in columns), None)
    if "instruction" in columns and output is not None:
        roles = {"instruction": "instruction", "output": output}
        extra = next((c for c in ALPACA_INPUTS if c in columns), None)
        roles |= {"input": extra} if extra else {}
        roles |= {"system": "system"} if "system" in columns else {}
        yield Reading("alpaca", roles)
    for prompt, completion in PAIR_COLUMNS:
        if prompt in columns and completion in columns:
            roles = {"prompt": prompt, "completion": completion}
            divided = looks_like_chat(next((x for x in sample[prompt] if x is not None), None))
            yield Reading("prompt-completion", roles | (_beside(columns) if divided else {}))
    texts = _text_columns(source)
    named = next((c for c in TEXT_COLUMNS if c in columns), None)
    only = texts[0] if len(texts) == 1 else columns[0] if len(columns) == 1 else None
    text = named or only
    if text is not None and not looks_like_chat(next(iter(sample[text]), None)):
        yield Reading("text", {"text": text})
        if len(texts) == 2 and text in texts and named:
            prompt = next(c for c in texts if c != text)
            yield Reading("prompt-completion", {"prompt": prompt, "completion": text})


def _chat_readings(sample: Mapping[str, list[Any]], columns: list[str]) -> Iterator[Reading]:
    firsts = {c: next((x for x in sample[c] if x is not None), None) for c in columns}
    chats = [c for c in columns if looks_like_chat(firsts[c])]
    if {"prompt", "completion"} <= set(chats):
        return  # a chat split over two columns: read as a pair
    # A column with such a name holds chats even if its first cell is malformed.
    chats += [c for c in CHAT_COLUMNS if isinstance(firsts.get(c), list) and c not in chats]
    for column in sorted(chats, key=lambda c: CHAT_COLUMNS.index(c) if c in CHAT_COLUMNS else 99):
        kind = "sharegpt" if is_sharegpt(firsts[column]) else "messages"
        roles = {"messages" if kind == "messages" else "conversations": column}
        roles |= {"system": "system"} if "system" in columns else {}
        yield Reading(kind, roles | _beside(columns))


def _beside(columns: list[str]) -> dict[str, str]:
    """The columns with the tools and documents of a chat."""
    known = {"tools": TOOL_COLUMNS, "documents": DOCUMENT_COLUMNS}
    found = {role: next((c for c in names if c in columns), None) for role, names in known.items()}
    return {role: column for role, column in found.items() if column}


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
            f"--prompt-field {texts[0]} --completion-field {texts[1]}."
        )
    return DataError(
        f"{source.origin}: which column holds the text? The columns are {columns}",
        hint=hint,
    )
