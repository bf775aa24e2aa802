"""What a JSON object holds and where: the lists of rows inside it, without reading them in.

Which of them are the rows is decided in ``json_shape``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lorita.data.sources.json_text import JsonText

DEEPEST = 3
"""Levels of objects that are looked into for a list of rows."""
MOST_CHILDREN = 1000
"""Keys of one object that are looked at; the others are counted."""
TURN_KEYS = ("role", "from")
NAME_KEYS, CELL_KEYS = ("columns", "header", "headers", "fields"), ("data", "rows", "values")
"""Keys of a table in two parts: the names of the columns, and the rows as lists of cells."""


@dataclass
class Node:
    """A value: its kind (``object``, ``list``, ``text`` or ``other``) and its number of parts.

    ``first`` is the first element of a list, or the whole number that a value is; ``kinds`` are
    the kinds of all elements.
    """

    kind: str
    size: int = 0
    first: Any = None
    kinds: set[str] = field(default_factory=set)
    children: dict[str, Node] = field(default_factory=dict)

    @property
    def is_chat(self) -> bool:
        """Whether this is a list of turns."""
        return self.is_rows(chats=True) and any(key in self.first for key in TURN_KEYS)

    def is_rows(self, *, chats: bool = False) -> bool:
        """Whether this is a list of objects, and no chat unless ``chats``."""
        rows = self.kind == "list" and self.kinds == {"object"}
        return rows and (chats or not any(key in self.first for key in TURN_KEYS))

    def walk(self, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Node]]:
        """This node and all below it, each with its path."""
        yield path, self
        for key, child in self.children.items():
            yield from child.walk((*path, key))


def table_keys(value: Mapping[str, Any]) -> tuple[str, str] | None:
    """The keys of such a table in an object (or its children), if it has both."""
    names = next((key for key in NAME_KEYS if key in value), None)
    cells = next((key for key in CELL_KEYS if key in value), None)
    return (names, cells) if names and cells else None


def outline(text: JsonText, depth: int = 0) -> Node:
    """The value that begins here, outlined; moves behind it."""
    mark = text.text[text.place : text.place + 1]
    if mark == "{" and depth < DEEPEST:
        node = Node("object")
        for key in text.members():
            node.size += 1
            child = outline(text, depth + 1)
            if node.size <= MOST_CHILDREN:
                node.children[key] = child
        return node
    if mark == "[":
        node = Node("list")
        for _ in text.elements():
            value, _raw = text.value(f"line {text.line}")
            node.first = value if not node.size else node.first
            node.size += 1
            node.kinds.add(kind_of_value(value))
        return node
    value, _raw = text.value(f"line {text.line}")
    return Node(kind_of_value(value), first=value if isinstance(value, int) else None)


def kind_of_value(value: object) -> str:
    """``object``, ``list``, ``text``, or ``other`` for numbers, true, false and null."""
    if isinstance(value, Mapping):
        return "object"
    return "list" if isinstance(value, list) else "text" if isinstance(value, str) else "other"
