"""Rows from columns whose meaning is known (``choose_format``); problems name their rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        return _divided_chats(*columns)

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


def _divided_chats(prompt: str, completion: str) -> ReadCells:
    """Chats split over two columns: only the messages of the completion are trained."""

    def read(cells: Cells, complain: RowComplain) -> list[Row]:
        rows: list[Row] = []
        for row, (before, after) in enumerate(zip(cells[prompt], cells[completion], strict=True)):
            given, answer = _turns(before, "user"), _turns(after, "assistant")
            chat = read_chat([*given, *answer], _about(row, complain))
            cut = len(given)
            messages = [
                Message(m.role, m.content, m.muted or i < cut, m.extra)
                for i, m in enumerate(chat.messages)
            ]
            rows.append(Chat(tuple(messages), chat.tools))
        return rows

    return read


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
    def read(cells: Cells, complain: RowComplain) -> list[Row]:
        texts = {
            role: text_cells(cells, name, complain, remarks) for role, name in reading.roles.items()
        }
        for role in ("instruction", "output"):
            refuse_empty(texts[role], reading.roles[role], complain)
        count = len(texts["output"])
        return [_alpaca_chat({role: some[i] for role, some in texts.items()}) for i in range(count)]

    return read


def _alpaca_chat(row: Mapping[str, str]) -> Chat:
    parts = [part for part in (row["instruction"], row.get("input", "")) if part.strip()]
    system = row.get("system", "")
    head = (Message("system", system),) if system.strip() else ()
    turns = (Message("user", "\n\n".join(parts)), Message("assistant", row["output"]))
    return Chat((*head, *turns))


def _chats(source: Source, reading: Reading, remarks: Remarks) -> ReadCells:
    roles = reading.roles
    column = str(reading.chat_column)

    def read(cells: Cells, complain: RowComplain) -> list[Row]:
        tools = cells[roles["tools"]] if "tools" in roles else repeat(None)
        systems = (
            text_cells(cells, roles["system"], complain, remarks)
            if "system" in roles
            else repeat("")
        )
        return [
            read_chat(_cell(cell), _about(row, complain), system=first, tools=decoded(listed))
            for row, (cell, first, listed) in enumerate(
                zip(cells[column], systems, tools, strict=False)
            )
        ]

    return read


def _cell(cell: object) -> object:
    return turns_of(cell) if isinstance(cell, str) and is_transcript(cell) else cell
