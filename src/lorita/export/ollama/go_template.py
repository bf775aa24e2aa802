"""The part of Go's ``text/template`` that is needed to render what ``chat_layout`` writes.

It checks exports on machines without Go. Supported are text, trim markers, comments, ``if``,
``range``, variables, fields, string and number constants, and comparisons. Anything else raises
``GoTemplateError``. The slow tests render the same templates with Go itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_OPEN = re.compile(r"\{\{(-[ \t\r\n])?")
_TOKEN = re.compile(
    r"""\s*(?: (?P<close> (?:(?<=\s)-)? \}\} )
        | (?P<string> "(?:\\.|[^"\\\n])*" | `[^`]*` )
        | (?P<comment> /\*.*?\*/ | , )
        | (?P<sign> := | = | \( | \) )
        | (?P<word> \$?\w*(?:\.\w+)+ | \$?\w+ | [$.] ) )""",
    re.VERBOSE | re.DOTALL,
)
_SPACE = " \t\r\n"


class GoTemplateError(ValueError):
    """Not a template, or one that uses unsupported parts of the language."""


def render_go(source: str, data: Mapping[str, Any]) -> str:
    """The text that Go's ``text/template`` renders from ``source`` and ``data``.

    Raises ``GoTemplateError`` for anything outside the supported part of the language.
    """
    nodes, _ = _parse(_pieces(source), 0, within=False)
    out: list[str] = []
    _run(nodes, data, _Scope({"$": data}), out)
    return "".join(out)


def go_string(text: str) -> str:
    """``text`` as a Go string constant on one line, with unprintable characters escaped."""
    spelled = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else _escaped(c) for c in spelled)


def _escaped(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


@dataclass
class _Block:
    """An ``if`` or ``range`` block: its branches as (condition, nodes); ``else`` has None."""

    kind: str
    branches: list[tuple[list[str] | None, list[Any]]] = field(default_factory=list)


class _Scope:
    """Variables by name. A block can read and change the variables of enclosing blocks."""

    def __init__(self, values: dict[str, Any], outer: _Scope | None = None) -> None:
        self.values, self.outer = values, outer

    def of(self, name: str) -> _Scope:
        """The innermost scope that has the variable."""
        if name in self.values:
            return self
        if self.outer is None:
            raise GoTemplateError(f"undefined variable {name}")
        return self.outer.of(name)


def _pieces(source: str) -> list[str | list[str]]:
    """The source split into texts and actions (lists of words), white space trimmed as marked."""
    pieces: list[str | list[str]] = []
    at, trim = 0, False
    while True:
        start = _OPEN.search(source, at)
        text = source[at : start.start() if start else len(source)]
        text = text.lstrip(_SPACE) if trim else text
        if start is None:
            return [*pieces, text]
        pieces.append(text.rstrip(_SPACE) if start.group(1) else text)
        words, at, trim = _action(source, start.end())
        pieces.append(words)


def _action(source: str, at: int) -> tuple[list[str], int, bool]:
    """The words of an action, where it ends, and whether it trims the text after it."""
    words: list[str] = []
    while True:
        token = _TOKEN.match(source, at)
        if token is None:
            raise GoTemplateError(f"not supported: {source[at : at + 30]!r}")
        at = token.end()
        if token["close"]:
            return words, at, token["close"].startswith("-")
        words += [token[kind] for kind in ("string", "sign", "word") if token[kind]]


def _parse(
    pieces: Sequence[str | list[str]], at: int, *, within: bool
) -> tuple[list[Any], tuple[list[str], int] | None]:
    """The nodes up to the end of a block, and the action that ended it with the next position."""
    nodes: list[Any] = []
    while at < len(pieces):
        piece = pieces[at]
        at += 1
        if isinstance(piece, str):
            nodes.append(piece)
        elif piece and piece[0] in ("if", "range"):
            block, at = _parse_block(piece, pieces, at)
            nodes.append(block)
        elif piece and piece[0] in ("end", "else"):
            if not within:
                raise GoTemplateError(f"{piece[0]} outside of a block")
            return nodes, (piece, at)
        elif piece:
            nodes.append(piece)
    return nodes, None


def _parse_block(
    piece: list[str], pieces: Sequence[str | list[str]], at: int
) -> tuple[_Block, int]:
    block = _Block(piece[0])
    condition: list[str] | None = piece[1:]
    while True:
        body, end = _parse(pieces, at, within=True)
        if end is None:
            raise GoTemplateError(f"{block.kind} without an end")
        block.branches.append((condition, body))
        words, at = end
        if words == ["end"]:
            return block, at
        if condition is None:
            raise GoTemplateError("else after else")
        condition = words[2:] if len(words) > 1 else None


def _run(nodes: Sequence[Any], dot: Any, scope: _Scope, out: list[str]) -> None:
    for node in nodes:
        if isinstance(node, str):
            out.append(node)
        elif isinstance(node, list):
            _act(node, dot, scope, out)
        elif node.kind == "if":
            inner = _Scope({}, scope)
            for condition, body in node.branches:
                if condition is None or _value(condition, dot, inner):
                    _run(body, dot, inner, out)
                    break
        else:
            _loop(node, dot, scope, out)


def _loop(node: _Block, dot: Any, scope: _Scope, out: list[str]) -> None:
    (words, body), *rest = node.branches
    names: list[str] = []
    if words and ":=" in words:
        names = words[: words.index(":=")]
        words = words[words.index(":=") + 1 :]
    items = list(_value(words or [], dot, scope))
    for number, item in enumerate(items):
        values = dict(zip(reversed(names), (item, number), strict=False))
        _run(body, item, _Scope(values, scope), out)
    if not items and rest:
        _run(rest[0][1], dot, scope, out)


def _act(words: list[str], dot: Any, scope: _Scope, out: list[str]) -> None:
    if len(words) > 2 and words[1] in (":=", "="):
        target = scope if words[1] == ":=" else scope.of(words[0])
        target.values[words[0]] = _value(words[2:], dot, scope)
        return
    out.append(str(_value(words, dot, scope)))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": lambda first, *others: any(first == other for other in others),
    "ne": lambda one, other: one != other,
    "not": lambda value: not value,
    "and": lambda *values: next((v for v in values if not v), values[-1]),
    "or": lambda *values: next((v for v in values if v), values[-1]),
    "len": len,
}


def _value(words: Sequence[str], dot: Any, scope: _Scope) -> Any:
    terms, rest = _terms(list(words), dot, scope)
    if rest or not terms:
        raise GoTemplateError(f"not supported: {' '.join(words)!r}")
    return _call(terms)


def _call(terms: list[Any]) -> Any:
    head, *arguments = terms
    if callable(head):
        try:
            return head(*arguments)
        except (TypeError, IndexError) as error:
            raise GoTemplateError(str(error)) from error
    if arguments:
        raise GoTemplateError(f"{head!r} is not a function")
    return head


def _terms(words: list[str], dot: Any, scope: _Scope) -> tuple[list[Any], list[str]]:
    terms: list[Any] = []
    while words and words[0] != ")":
        word = words.pop(0)
        if word == "(":
            inner, words = _terms(words, dot, scope)
            terms.append(_call(inner))
            words = words[1:]
        else:
            terms.append(_term(word, dot, scope))
    return terms, words


def _term(word: str, dot: Any, scope: _Scope) -> Any:
    if word[0] == "`":
        return word[1:-1]
    if word[0] == '"':
        return json.loads(re.sub(r"\\U([0-9a-f]{8})", lambda m: chr(int(m[1], 16)), word))
    if word.isdigit():
        return int(word)
    if word in ("true", "false"):
        return word == "true"
    if word in _FUNCTIONS:
        return _FUNCTIONS[word]
    name, *path = word.split(".")
    if name and not name.startswith("$"):
        raise GoTemplateError(f"unknown function {word!r}")
    value = scope.of(name).values[name] if name else dot
    for part in path:
        value = value.get(part, "") if part else value
    return value
