"""Where the rows of a JSON object are: in an inner list, in columns, under ids, or it is a row.

Nothing is guessed silently: the shape says what is read and what is not, and where several lists
of rows would do, the user is asked which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorita.data.sources.json_outline import Node, table_keys
from lorita.data.sources.open_file import FileProblem

SPLITS = {"train", "training", "validation", "valid", "val", "dev", "eval", "test"}
ROW_KEYS = {
    "text", "prompt", "completion", "instruction", "question", "answer", "answers", "output",
    "input", "response", "content", "query", "target", "chosen", "rejected",
}  # fmt: skip
"""Keys of an object that is a row itself, if they hold text."""
CHAT_KEYS = {"messages", "conversations", "conversation", "chat", "dialogue", "dialog", "turns"}
LABELS = {
    "version", "description", "license", "licence", "name", "title", "source", "url", "homepage",
    "citation", "author", "language", "lang", "date", "created", "updated", "format", "type",
}  # fmt: skip
"""Keys beside columns or rows that may hold a text about all of them."""
MOST_KEYS = 6
"""Keys named in a message."""


@dataclass(frozen=True)
class Shape:
    """Where the rows are: ``kind`` at ``path``; ``note`` says so.

    ``list``, ``viewer`` (the hub's viewer: each row in an envelope), ``columns``, ``table``
    (names of columns and rows of cells), ``ids`` (an object of rows), or ``row``.
    """

    kind: str
    path: tuple[str, ...] = ()
    note: str = ""


def find_shape(root: Node, name: str | None, split: str, *, one_line: bool = False) -> Shape:
    """The rows of an object; ``name`` is a key the user gave, ``split`` the split that is meant.

    An object on ``one_line`` is a row if nothing else is found in it.
    Raises ``FileProblem`` if there are none, or several lists that only the user can choose from.
    """
    found = _candidates(root)
    if name is not None:
        named = [shape for shape in found if name in (_dotted(shape), *shape.path[-1:])]
        if len(named) != 1:
            raise FileProblem(f"no list of rows named {name!r}; {_listed(found, root)}")
        return _said(named[0], root)
    if len(found) == 1:
        return _said(found[0], root)
    names = [shape.path[-1].lower() if shape.path else "" for shape in found]
    if found and set(names) <= SPLITS:
        if split.lower() not in names:
            raise FileProblem(f"no split {split!r} in this file; {_listed(found, root)}")
        return _said(found[names.index(split.lower())], root)
    if found:
        hint = "name the one to read with --data-name"
        raise FileProblem(f"several lists of rows: {_listed(found, root)}; {hint}")
    if one_line:
        return Shape("row")
    if _is_row(root):
        return Shape("row", note="the file is one object, read as a single row")
    raise FileProblem(
        f"one object with the keys {_some(root.children)}, and no list of rows in it; "
        "write the rows as a list of objects, or one object per line"
    )


def _candidates(root: Node) -> list[Shape]:
    """Everything that could be the rows; what is inside one is not another."""
    found: list[Shape] = []
    if _is_row(root):
        return found
    taken: set[tuple[str, ...]] = set()
    for path, node in root.walk():
        if any(path[:end] in taken for end in range(len(path) + 1)):
            continue
        if {"schema", "data"} <= node.children.keys() and node.children["data"].is_rows():
            found.append(Shape("list", (*path, "data")))  # pandas' table: the schema is no data
        elif (kind := _kind(node)) is not None:
            found.append(Shape(kind, path))
        else:
            continue
        last = found[-1].path
        taken.add(last)
        if last[-1:] == ("data",):
            taken.add((*last[:-1], "schema"))
    return found


def _kind(node: Node) -> str | None:
    children = node.children
    if _is_viewer(children.get("rows")):
        return "viewer"
    table = table_keys(children)
    if table is not None and children[table[1]].kinds == {"list"}:
        return "table"
    if node.is_rows():
        return "list"
    if node.size <= len(children) and _is_columns(children):
        return "columns"
    return "ids" if _same_keys(children) or _chats_by_id(children) else None


def _is_viewer(rows: Node | None) -> bool:
    return rows is not None and rows.is_rows() and {"row_idx", "row"} <= rows.first.keys()


def _is_columns(children: Mapping[str, Node]) -> bool:
    """Lists as long as each other, none of them of rows; or objects with the same numbers as keys.

    Texts about all rows may lie beside them.
    """
    parts = [child for key, child in children.items() if not _is_label(key, child)]
    if not parts or len({part.kind for part in parts}) > 1:
        return False
    if parts[0].kind == "list":
        other = any(part.is_rows() or part.is_chat for part in parts)
        return not other and len({part.size for part in parts}) == 1 and parts[0].size > 0
    keys = list(parts[0].children)
    numbered = all(key.isdigit() for key in keys) or (
        len(parts) > 1
        and any(key.lower() in ROW_KEYS for key in children)
        and not any(key.lower() in ROW_KEYS for key in keys)
    )
    return bool(keys) and numbered and all(list(part.children) == keys for part in parts)


def _is_label(key: str, child: Node) -> bool:
    return child.kind == "other" or (child.kind == "text" and key.lower() in LABELS)


def _same_keys(children: Mapping[str, Node]) -> bool:
    """Whether these are rows under ids: objects with the same keys, texts or chats among them."""
    parts = list(children.values())
    if any(part.kind != "object" or not part.children for part in parts):
        return False
    if len(parts) < 2 and not all(key.isdigit() for key in children):
        return False
    keys = set(parts[0].children) if parts else set()
    holds = any(_has_text(part) for part in parts[:1])
    return holds and all(set(part.children) == keys for part in parts)


def _has_text(row: Node) -> bool:
    return any(child.kind == "text" or child.is_chat for child in row.children.values())


def _chats_by_id(children: Mapping[str, Node]) -> bool:
    """Whether these are several chats, none under a name that a column would have."""
    several = len(children) > 1 and all(child.is_chat for child in children.values())
    return several and not {key.lower() for key in children} & (ROW_KEYS | CHAT_KEYS)


def _is_row(root: Node) -> bool:
    """Whether the object is a row itself: a chat, or text under a key that rows have."""
    if _chats_by_id(root.children):
        return False
    return any(
        node.is_chat or (node.kind == "text" and key.lower() in ROW_KEYS)
        for key, node in root.children.items()
    )


def _said(shape: Shape, root: Node) -> Shape:
    place = repr(_dotted(shape)) if shape.path else "the object"
    said = {
        "list": f"the rows are the list {place}",
        "viewer": "the rows are those of a page of the hub's viewer",
        "columns": f"the keys of {place} are the columns",
        "table": f"{place} is a table: the names of its columns, and rows of cells",
        "ids": f"the rows are the values of {place}",
    }[shape.kind]
    left: list[str] = []
    node = root
    for key in shape.path:
        left += [other for other in node.children if other != key]
        node = node.children[key]
    said += f" (not read: {_some(left)})" if left else ""
    total = node.children.get("num_rows_total", Node("other")).first
    if shape.kind == "viewer" and isinstance(total, int) and total > node.children["rows"].size:
        said += f"; only {node.children['rows'].size:,} of its {total:,} rows"
    return Shape(shape.kind, shape.path, said)


def _listed(found: Sequence[Shape], root: Node) -> str:
    if not found:
        return f"the file has the keys {_some(root.children)}"
    parts = []
    for shape in found[:MOST_KEYS]:
        node = root
        for key in shape.path:
            node = node.children[key]
        count = f" ({node.size:,} rows)" if shape.kind in ("list", "ids") else ""
        parts.append(f"{_dotted(shape) or 'the whole object'}{count}")
    more = f" and {len(found) - MOST_KEYS:,} more" if len(found) > MOST_KEYS else ""
    return f"it has {', '.join(parts)}{more}"


def _dotted(shape: Shape) -> str:
    return ".".join(shape.path)


def _some(keys: Mapping[str, Any] | Sequence[str]) -> str:
    names = list(keys)
    more = f" and {len(names) - MOST_KEYS} more" if len(names) > MOST_KEYS else ""
    return ", ".join(names[:MOST_KEYS]) + more
