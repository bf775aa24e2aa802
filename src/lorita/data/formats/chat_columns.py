"""Columns of chats: which hold the turns, and which belong to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lorita.data.formats.chats import is_sharegpt, looks_like_chat
from lorita.data.formats.reading import Reading
from lorita.data.formats.transcripts import is_transcript
from lorita.data.formats.written_chats import starts_like_chat
from lorita.data.sources.source import Source
from lorita.errors import DataError

CHAT_COLUMNS = ("messages", "conversations", "conversation", "chat", "dialogue", "dialog", "turns")
TOOL_COLUMNS, DOCUMENT_COLUMNS = ("tools", "functions"), ("documents",)
UNUSABLE_COLUMNS = (
    *("image", "images", "audio", "audios", "video", "videos", "chat_template_kwargs"),
)
"""Columns that belong to a chat, but that lorita cannot give to a model."""
CHATS = ("messages", "sharegpt")
BESIDE = ("system", "tools", "documents")
"""What a chat may have in columns of its own."""


def without(reading: Reading, ignored: tuple[str, ...]) -> Reading:
    """The reading without the columns and keys that the user wants to be left out."""
    kept = {r: c for r, c in reading.roles.items() if r not in BESIDE or c not in ignored}
    return replace(reading, roles=kept, ignored=ignored)


def refuse_unusable(source: Source, ignored: tuple[str, ...]) -> None:
    """Raise ``DataError`` if there are columns of images and the like that are not ``ignored``.

    Of as many rows as are looked at to tell what a column holds, the first one is named.
    """
    found = {
        column: next((row for row, cell in enumerate(source.sample[column], 1) if cell), None)
        for column in UNUSABLE_COLUMNS
        if column in source.columns and column not in ignored
    }
    found = {column: row for column, row in found.items() if row is not None}
    if found:
        raise DataError(
            [
                f"{source.origin}: row {row}: the column {column!r} cannot be trained on"
                for column, row in found.items()
            ],
            hint="lorita trains on text alone, also where the model can read images. To leave "
            f"these columns out: --ignore-fields {','.join(found)}",
        )


def holds_chat(cell: object) -> bool:
    """Whether a cell holds turns; text counts only if it names a speaker where a chat does."""
    if isinstance(cell, str):
        return starts_like_chat(cell)
    return looks_like_chat(cell)


def chat_readings(sample: Mapping[str, list[Any]], columns: list[str]) -> Iterator[Reading]:
    """The readings of each column that holds chats, those with a usual name first."""
    chats = [
        c
        for c in columns
        if any(holds_chat(cell) for cell in sample[c])
        or (c in CHAT_COLUMNS and any(map(looks_like_chat, sample[c])))
    ]
    if "completion" in chats and "prompt" in columns:
        return  # a chat split over two columns: read as a pair
    # A column with such a name holds chats even if its first cell is malformed.
    lists = [c for c in CHAT_COLUMNS if c in columns and isinstance(_first(sample[c]), list)]
    chats += [c for c in lists if c not in chats]
    for column in sorted(chats, key=lambda c: CHAT_COLUMNS.index(c) if c in CHAT_COLUMNS else 99):
        yield chat_reading(sample, columns, column)


def chat_reading(sample: Mapping[str, list[Any]], columns: Sequence[str], column: str) -> Reading:
    """The reading of one column as chats, with what belongs to them in other columns."""
    known = next((cell for cell in sample[column] if looks_like_chat(cell)), None)
    kind = "sharegpt" if is_sharegpt(known) else "messages"
    roles = {"messages" if kind == "messages" else "conversations": column}
    roles |= beside_chats([name for name in columns if name != column])
    note = ""
    if isinstance(_first(sample[column]), str):
        how = "a transcript" if is_transcript(_first(sample[column])) else "text"
        note = f"the chats in {column!r} are written as {how}"
    return Reading(kind, roles, note=note)


def beside_chats(columns: Sequence[str]) -> dict[str, str]:
    """The columns with the system message, tools and documents of a chat in another column."""
    known = {"system": ("system",), "tools": TOOL_COLUMNS, "documents": DOCUMENT_COLUMNS}
    found = {role: next((c for c in names if c in columns), None) for role, names in known.items()}
    return {role: column for role, column in found.items() if column}


def _first(cells: Sequence[Any]) -> Any:
    return next((cell for cell in cells if cell is not None), None)
