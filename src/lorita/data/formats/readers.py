"""Rows from columns whose meaning is known (``choose_format``); problems name their rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import Any

from lorita.data.formats.cells import refuse_empty, template_fields, template_reader, text_cells
from lorita.data.formats.chats import decoded, looks_like_chat, read_chat
from lorita.data.formats.choose_format import Reading, Wanted, choose_reading, understood
from lorita.data.formats.stored_rows import Cells, ReadCells, StoredRows
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
    taken, others = choose_reading(source, wanted or Wanted())
    readers: dict[str, Callable[[Source, Reading], ReadCells]] = {
        "text": _texts,
        "prompt-completion": _pairs,
        "alpaca": _alpaca,
        "messages": _chats,
        "sharegpt": _chats,
    }
    needed = source.only(columns_of(source, taken))
    rows = StoredRows(needed, readers[taken.format](source, taken))
    found = Problems(source.origin) if problems is None else problems
    for _ in rows.batches(found.add):
        pass
    if problems is None:
        found.raise_any()
    kind = {Text: "text", Pair: "pair", Chat: "chat"}[type(rows[0])]
    return Rows(kind, rows, understood(source, taken, others), source.origin)  # type: ignore[arg-type]


def columns_of(source: Source, reading: Reading) -> list[str]:
    """The columns a reading uses; ``DataError`` if its template names one that is missing."""
    if reading.template is not None:
        return template_fields(source, reading.template)
    return list(reading.roles.values())


def _texts(source: Source, reading: Reading) -> ReadCells:
    column = reading.roles.get("text")
    if reading.template is not None:
        texts_of = template_reader(source, reading.template)
    else:
        texts_of = lambda cells, complain: text_cells(cells, str(column), complain)  # noqa: E731

    def read(cells: Cells, complain: RowComplain) -> list[Row]:
        texts = texts_of(cells, complain)
        refuse_empty(texts, column, complain)
        return [Text(text) for text in texts]

    return read


def _pairs(source: Source, reading: Reading) -> ReadCells:
    columns = reading.roles["prompt"], reading.roles["completion"]
    if looks_like_chat(source.cells([0])[columns[0]][0]):
        return _divided_chats(reading)

    def read(cells: Cells, complain: RowComplain) -> list[Row]:
        texts = [text_cells(cells, column, complain) for column in columns]
        for column, some in zip(columns, texts, strict=True):
            refuse_empty(some, column, complain)
        return [Pair(*pair) for pair in zip(*texts, strict=True)]

    return read


def _divided_chats(reading: Reading) -> ReadCells:
    """Chats split over two columns: only the messages of the completion are trained."""
    read_whole = _chats_from(reading, lambda cells: [a + b for a, b in _halves(reading, cells)])

    def read(cells: Cells, complain: RowComplain) -> list[Row]:
        rows: list[Row] = []
        whole = read_whole(cells, complain)
        for chat, (before, _) in zip(whole, _halves(reading, cells), strict=True):
            assert isinstance(chat, Chat)
            given = len(read_chat(before, _ignore).messages)  # calls in a row become one message
            messages = [replace(m, muted=m.muted or i < given) for i, m in enumerate(chat.messages)]
            rows.append(replace(chat, messages=tuple(messages)))
        return rows

    return read


def _halves(reading: Reading, cells: Cells) -> list[tuple[list[Any], list[Any]]]:
    columns = reading.roles["prompt"], reading.roles["completion"]
    both = zip(*(cells[column] for column in columns), strict=True)
    return [(_as_list(before), _as_list(after)) for before, after in both]


def _ignore(what: str) -> None:
    """Ignore a problem that is reported for the whole chat."""


def _about(row: int, complain: RowComplain) -> Callable[[str], None]:
    return partial(_complain_chat, complain, row)


def _complain_chat(complain: RowComplain, row: int, what: str) -> None:
    complain(row, what, CHAT_HINT)


def _as_list(cell: object) -> list[Any]:
    turns = decoded(cell)
    return turns if isinstance(turns, list) else [turns]


def _alpaca(source: Source, reading: Reading) -> ReadCells:
    def read(cells: Cells, complain: RowComplain) -> list[Row]:
        texts = {role: text_cells(cells, name, complain) for role, name in reading.roles.items()}
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


def _chats(source: Source, reading: Reading) -> ReadCells:
    column = reading.roles.get("messages") or reading.roles["conversations"]
    return _chats_from(reading, lambda cells: cells[column])


def _chats_from(reading: Reading, turns_in: Callable[[Cells], list[Any]]) -> ReadCells:
    """Chats whose turns are taken from the cells; the rest of a chat has its own columns."""
    roles = reading.roles

    def read(cells: Cells, complain: RowComplain) -> list[Row]:
        systems = text_cells(cells, roles["system"], complain) if "system" in roles else repeat("")
        tools, documents = (
            cells[roles[name]] if name in roles else repeat(None) for name in ("tools", "documents")
        )
        return [
            read_chat(
                turns,
                _about(row, complain),
                system=system,
                tools=listed,
                documents=texts,
                ignored=reading.ignored,
            )
            for row, (turns, system, listed, texts) in enumerate(
                zip(turns_in(cells), systems, tools, documents, strict=False)
            )
        ]

    return read
