"""Rows from columns whose meaning is known (``formats.py``); every mistake is told with its row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import repeat
from typing import Any

from lorita.data.cells import refuse_empty, template_texts, text_cells
from lorita.data.chats import looks_like_chat, read_chat
from lorita.data.formats import Reading, Wanted, choose_reading, understood
from lorita.data.rows import Chat, Message, Pair, Problems, Row, Rows, Text
from lorita.data.sources import Source

CHAT_HINT = (
    "A row is a list of messages such as "
    '{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}.'
)


def read_rows(source: Source, wanted: Wanted | None = None) -> Rows:
    """All rows, read as ``wanted`` says or as the columns suggest.

    Raises ``DataError`` for columns that are not there, cells of another kind than the format
    needs, and empty rows: all of them, with their row numbers.
    """
    taken, others = choose_reading(source, wanted or Wanted())
    read: dict[str, Callable[[Source, Reading], list[Row]]] = {
        "text": _texts,
        "prompt-completion": _pairs,
        "alpaca": _alpaca,
        "messages": _chats,
        "sharegpt": _chats,
    }
    rows = read[taken.format](source, taken)
    kind = {Text: "text", Pair: "pair", Chat: "chat"}[type(rows[0])]
    return Rows(kind, rows, understood(source, taken, others), source.origin)  # type: ignore[arg-type]


def _texts(source: Source, reading: Reading) -> list[Row]:
    if reading.template is not None:
        texts = template_texts(source, reading.template)
    else:
        texts = text_cells(source, reading.roles["text"])
    refuse_empty(source, texts)
    return [Text(text) for text in texts]


def _pairs(source: Source, reading: Reading) -> list[Row]:
    prompt, completion = reading.roles["prompt"], reading.roles["completion"]
    if any(looks_like_chat(cell) for cell in source.rows[prompt][:1]):
        return _divided_chats(source, prompt, completion)
    prompts, completions = text_cells(source, prompt), text_cells(source, completion)
    problems = Problems(source.origin)
    for row, pair in enumerate(zip(prompts, completions, strict=True)):
        for column, text in zip((prompt, completion), pair, strict=True):
            if not text.strip():
                problems.add(row, f"the column {column!r} is empty")
    problems.raise_any("Remove these rows, or fill them.")
    return [Pair(*pair) for pair in zip(prompts, completions, strict=True)]


def _divided_chats(source: Source, prompt: str, completion: str) -> list[Row]:
    """Messages cut in two columns: only those of the completion are trained."""
    problems = Problems(source.origin)
    rows: list[Row] = []
    cells = zip(source.rows[prompt][:], source.rows[completion][:], strict=True)
    for row, (before, after) in enumerate(cells):
        turns = [*_as_list(before), *_as_list(after)]
        chat = read_chat(turns, partial(problems.add, row))
        cut = len(_as_list(before))
        messages = [
            Message(m.role, m.content, m.muted or i < cut, m.extra)
            for i, m in enumerate(chat.messages)
        ]
        rows.append(Chat(tuple(messages), chat.tools))
    problems.raise_any(CHAT_HINT)
    return rows


def _as_list(cell: object) -> list[Any]:
    return cell if isinstance(cell, list) else [cell]


def _alpaca(source: Source, reading: Reading) -> list[Row]:
    cells = {role: text_cells(source, column) for role, column in reading.roles.items()}
    problems = Problems(source.origin)
    for role in ("instruction", "output"):
        for row, text in enumerate(cells[role]):
            if not text.strip():
                problems.add(row, f"the column {reading.roles[role]!r} is empty")
    problems.raise_any("Remove these rows, or fill them.")
    return [
        _alpaca_chat({role: texts[i] for role, texts in cells.items()})
        for i in range(len(source.rows))
    ]


def _alpaca_chat(row: Mapping[str, str]) -> Chat:
    parts = [part for part in (row["instruction"], row.get("input", "")) if part.strip()]
    system = row.get("system", "")
    head = (Message("system", system),) if system.strip() else ()
    turns = (Message("user", "\n\n".join(parts)), Message("assistant", row["output"]))
    return Chat((*head, *turns))


def _chats(source: Source, reading: Reading) -> list[Row]:
    roles = reading.roles
    column = roles.get("messages") or roles["conversations"]
    tools = source.rows[roles["tools"]][:] if "tools" in roles else repeat(None)
    systems = text_cells(source, roles["system"]) if "system" in roles else repeat("")
    problems = Problems(source.origin)
    rows: list[Row] = []
    for row, (cell, system, listed) in enumerate(
        zip(source.rows[column][:], systems, tools, strict=False)
    ):
        rows.append(read_chat(cell, partial(problems.add, row), system=system, tools=listed))
    problems.raise_any(CHAT_HINT)
    return rows
