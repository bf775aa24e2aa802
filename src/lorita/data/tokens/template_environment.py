"""The environment in which chat templates run: jinja's sandbox, with what templates may expect.

Templates are written for transformers, and get the same here: its functions, its ``generation``
blocks, its aliases of fields. It is not used itself, because it takes a second to start.
``tests/data/tokens/test_template_environment.py`` compares the two.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

_REASONING = ("reasoning_content", "thinking", "reasoning")
"""The names of an answer's reasoning, of which templates know one or another."""


class Generation(Extension):
    """``{% generation %}``: notes which characters of the text are in such a block."""

    tags = {"generation"}  # noqa: RUF012 - jinja declares it so

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.length = 0
        self.spans: list[tuple[int, int]] = []

    def parse(self, parser: Parser) -> nodes.Node:
        """The block as a call of ``_noted``, which is given its text."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_noted"), [], [], body, lineno=line)

    def _noted(self, caller: Any) -> str:
        text: str = caller()
        self.spans.append((self.length, self.length + len(text)))
        return text

    def written(self, parts: Iterable[str]) -> str:
        """All parts as one text; ``spans`` are then those of its blocks."""
        self.length, self.spans = 0, []
        texts = []
        for part in parts:
            self.length += len(part)
            texts.append(part)
        return "".join(texts)


class _Namespace(Namespace):
    """``namespace()`` without names that would reach what Python keeps in an object."""

    def __init__(*given: Any, **named: Any) -> None:  # a template may call a value ``self``
        values = dict(*given[1:], **named)
        for name in values:
            _check_name(name)
        Namespace.__init__(given[0], values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


class _Dict:
    """``dict()`` and ``dict.fromkeys()``, and nothing else of the class."""

    def __call__(self, *given: Any, **named: Any) -> dict[Any, Any]:
        return dict(*given, **named)

    def fromkeys(self, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace takes no name that begins with an underscore: {name!r}")


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def _as_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is, where jinja's own filter would escape it for a page of HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def new_environment() -> ImmutableSandboxedEnvironment:
    """An environment for one template."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _as_json
    environment.globals |= {
        "raise_exception": _refuse,
        "strftime_now": _now,
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return environment


def what_templates_see(
    messages: Sequence[Any],
    tools: Sequence[Any],
    documents: Sequence[Any],
    special: Mapping[str, str],
    *,
    ask: bool,
) -> dict[str, Any]:
    """The names that a template may use. ``ask`` is its ``add_generation_prompt``.

    Raises ``ValueError`` for messages, tools or documents that are no objects.
    """
    for what, values in (("message", messages), ("tool", tools), ("document", documents)):
        if not all(isinstance(value, Mapping) for value in values):
            raise ValueError(f"a {what} is not an object with named fields")
    return {
        **_plain(special),
        "messages": [_with_reasoning(_plain(message)) for message in messages],
        "tools": _plain(list(tools)) or None,
        "documents": _plain(list(documents)) or None,
        "add_generation_prompt": ask,
    }


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """The message with its reasoning under the names that most templates look for."""
    found = next((message[name] for name in _REASONING if message.get(name) is not None), None)
    if found is None:
        return message
    return {"thinking": found, **message, "reasoning_content": found}


def _plain(value: Any) -> Any:
    """The value made of JSON's own types: other objects have methods that a template could call."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (int, float)):
        return int.__int__(value) if isinstance(value, int) else float.__float__(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [*map(_plain, value)] if isinstance(value, list) else tuple(map(_plain, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: _plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, sys.modules["numpy"].generic if "numpy" in sys.modules else ()):
        return _plain(value.item())
    if callable(getattr(value, "model_dump", None)):
        return _plain(value.model_dump())
    return f"<{type(value).__name__}>"
