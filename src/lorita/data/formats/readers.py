"""Rows from columns whose meaning is known (``choose_format``); problems name their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import Any

from lorita.data.formats.cells import (
    Remarks,
    refuse_empty,
    template_fields,
    template_reader,
    text_cells,
)
from lorita.data.formats.chats import looks_like_chat, read_chat
from lorita.data.formats.choose_format import Wanted, choose_reading, understood
from lorita.data.formats.reading import Reading
from lorita.data.formats.stored_rows import Cells, ReadCells, StoredRows
from lorita.data.formats.transcripts import is_transcript, turns_of
from lorita.data.formats.written_chats import decoded, starts_like_chat
from lorita.data.row_errors import Problems, RowComplain
from lorita.data.rows import Chat, Message, Pair, Row, Rows, Text
from lorita.data.sources.source import Source

CHAT_HINT = (
    "A row is a list of messages such as "
    '{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}.'
)


def read_rows(
    source: Source, wanted: Wanted | None = None, problems: Problems | None = None
) -> Rows:
    """All rows, read as ``wanted`` specifies or as the columns suggest.

    The rows stay on disk and are checked once here. Raises a single ``DataError`` for missing
    columns, cells of the wrong type and empty rows, with all their row numbers. If ``problems`` is
    given, bad rows are added to it instead and remain in the result.
    """
    wanted = wanted or Wanted()
    taken, others = choose_reading(source, wanted)
    remarks = Remarks(as_named=wanted.names_text)
    readers: dict[str, Callable[[Source, Reading, Remarks], ReadCells]] = {
        "text": _texts,
        "prompt-completion": _pairs,
        "alpaca": _alpaca,
        "messages": _chats,
        "sharegpt": _chats,
    }
    needed = source.only(columns_of(source, taken))
    rows = StoredRows(needed, readers[taken.format](source, taken, remarks))
    found = Problems(source.origin) if problems is None else problems
    for _ in rows.batches(found.add):
        pass
    notes = (*filter(None, [taken.note]), *remarks.lines())
    if problems is None:
        found.raise_any()
    kind = {Text: "text", Pair: "pair", Chat: "chat"}[type(rows[0])]
    said = understood(source, taken, others, notes)
    return Rows(kind, rows, said, source.origin, notes)  # type: ignore[arg-type]


def columns_of(source: Source, reading: Reading) -> list[str]:
    """The columns a reading uses; ``DataError`` if its template names one that is missing."""
    if reading.template is not None:
        return template_fields(source, reading.template)
    return list(reading.roles.values())


def _texts(source: Source, reading: Reading, remarks: Remarks) -> ReadCells:
    column = reading.roles.get("text")
    if reading.template is not None:
        texts_of = template_reader(source, reading.template, remarks)
    else:
        texts_of = lambda cells, complain: text_cells(cells, str(column), complain, remarks)  # noqa: E731

    def read(cells: Cells, complain: RowComplain) -> list[Row]:
        texts = texts_of(cells, complain)
        refuse_empty(texts, column, complain)
        return [Text(text) for text in texts]

    return read


def _pairs(source: Source, reading: Reading, remarks: Remarks) -> ReadCells:
    columns = reading.roles["prompt"], reading.roles["completion"]
    prompts = source.sample[columns[0]]
    conversations = bool(reading.note) and any(map(is_transcript, prompts))  # as in HH-RLHF
    if conversations or any(_divided(source.sample[column]) for column in columns):
        return _divided_chats(reading, remarks)

    def read(cells: Cells, complain: RowComplain) -> list[Row]:
        texts = [text_cells(cells, column, complain, remarks) for column in columns]
        for column, some in zip(columns, texts, strict=True):
            refuse_empty(some, column, complain)
        return [Pair(*pair) for pair in zip(*texts, strict=True)]

    return read


def _divided(cells: Sequence[object]) -> bool:
    """Whether the cells hold turns, or texts that stand for some."""
    return any(
        starts_like_chat(cell)
        if isinstance(cell, str)
        else looks_like_chat(cell) or looks_like_chat([cell])
        for cell in cells
    )


def _divided_chats(reading: Reading, remarks: Remarks) -> ReadCells:
    """Chats split over two columns: only the messages of the completion are trained."""
    read_whole = _chats_from(
        reading, lambda cells: [a + b for a, b in _halves(reading, cells)], remarks
    )

    def read(cells: Cells, complain: RowComplain) -> list[Row]:
        rows: list[Row] = []
        whole = read_whole(cells, complain)
        for chat, (_, after) in zip(whole, _halves(reading, cells), strict=True):
            assert isinstance(chat, Chat)
            # Counted from the end: a system message may have been added, and calls joined.
            given = len(chat.messages) - len(read_chat(after, _ignore).messages)
            messages = [replace(m, muted=m.muted or i < given) for i, m in enumerate(chat.messages)]
            rows.append(replace(chat, messages=tuple(messages)))
        return rows

    return read


def _halves(reading: Reading, cells: Cells) -> list[tuple[list[Any], list[Any]]]:
    columns = reading.roles["prompt"], reading.roles["completion"]
    both = zip(*(cells[column] for column in columns), strict=True)
    return [(_turns(before, "user"), _turns(after, "assistant")) for before, after in both]


def _ignore(what: str) -> None:
    """Ignore a problem that is reported for the whole chat."""


def _beside(
    cells: Cells, roles: Mapping[str, str], complain: RowComplain, remarks: Remarks
) -> Iterator[tuple[str, Any, Any]]:
    """System message, tools and documents of each row, from the columns beside its chat."""
    system = roles.get("system")
    systems = text_cells(cells, system, complain, remarks) if system else repeat("")
    tools, documents = (
        map(decoded, cells[roles[name]]) if name in roles else repeat(None)
        for name in ("tools", "documents")
    )
    return zip(systems, tools, documents, strict=False)


def _about(row: int, complain: RowComplain) -> Callable[[str], None]:
    return partial(_complain_chat, complain, row)


def _complain_chat(complain: RowComplain, row: int, what: str) -> None:
    complain(row, what, CHAT_HINT)


def _turns(cell: object, role: str) -> list[Any]:
    """The turns in a cell; a plain text is one turn of ``role``, a conversation in it several."""
    if isinstance(cell, str) and is_transcript(cell):
        return list(turns_of(cell))
    turns = decoded(cell)
    if isinstance(turns, str) and not starts_like_chat(turns):
        return [{"role": role, "content": turns}]
    return turns if isinstance(turns, list) else [turns]


def _alpaca(source: Source, reading: Reading, remarks: Remarks) -> ReadCells:
    columns = {role: name for role, name in reading.roles.items() if role != "history"}

    def read(cells: Cells, complain: RowComplain) -> list[Row]:
        texts = {role: text_cells(cells, name, complain, remarks) for role, name in columns.items()}
        for role in ("instruction", "output"):
            refuse_empty(texts[role], columns[role], complain)
        before = cells[reading.roles["history"]] if "history" in reading.roles else repeat(None)
        return [
            _alpaca_chat(
                {role: some[row] for role, some in texts.items()},
                _history(earlier, _about(row, complain)),
            )
            for row, earlier in zip(range(len(texts["output"])), before, strict=False)
        ]

    return read


def _history(cell: object, complain: Callable[[str], None]) -> list[Message]:
    """Earlier rounds, each a list of what the user and the assistant said."""
    rounds = decoded(cell) or []
    whole = isinstance(rounds, list) and all(
        isinstance(said, list) and len(said) == 2 and all(isinstance(part, str) for part in said)
        for said in rounds
    )
    if not whole:
        complain("its history is not a list of pairs, each a question and its answer")
        return []
    roles = ("user", "assistant")
    return [Message(role, part) for said in rounds for role, part in zip(roles, said, strict=True)]


def _alpaca_chat(row: Mapping[str, str], earlier: Sequence[Message]) -> Chat:
    parts = [part for part in (row["instruction"], row.get("input", "")) if part.strip()]
    system = row.get("system", "")
    head = (Message("system", system),) if system.strip() else ()
    turns = (Message("user", "\n\n".join(parts)), Message("assistant", row["output"]))
    return Chat((*head, *earlier, *turns))


def _chats(source: Source, reading: Reading, remarks: Remarks) -> ReadCells:
    column = str(reading.chat_column)
    return _chats_from(reading, lambda cells: [_cell(cell) for cell in cells[column]], remarks)


def _chats_from(
    reading: Reading, turns_in: Callable[[Cells], list[Any]], remarks: Remarks
) -> ReadCells:
    """Chats whose turns are taken from the cells; the rest of a chat has its own columns."""

    def read(cells: Cells, complain: RowComplain) -> list[Row]:
        beside = _beside(cells, reading.roles, complain, remarks)
        return [
            read_chat(
                turns,
                _about(row, complain),
                system=system,
                tools=tools,
                documents=documents,
                ignored=reading.ignored,
            )
            for row, (turns, (system, tools, documents)) in enumerate(
                zip(turns_in(cells), beside, strict=False)
            )
        ]

    return read


def _cell(cell: object) -> object:
    return turns_of(cell) if isinstance(cell, str) and is_transcript(cell) else cell
