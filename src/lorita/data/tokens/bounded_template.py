"""Limits on the work of a chat template, which comes with a model, an adapter or a run.

The sandbox (``template_environment``) keeps it from other code, but not from looping for ever or
making huge texts. So it is compiled with counters in it: each turn of a loop and each call of a
macro is a step, and what can grow a text is measured before it does.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError

from lorita.data.tokens.template_environment import Generation, new_environment

if TYPE_CHECKING:
    from jinja2 import Environment, Template

MOST_SOURCE = 2**20
"""Characters of a template; the longest known have some 30,000."""
MOST_STEPS, MOST_SECONDS = 1_000_000, 10.0
"""Turns of loops and calls of macros in one rendering; a template takes a few for each message.
The seconds also end what takes long in few steps."""
MOST_CHARACTERS = 2**26
"""Characters of a text, four times those of the longest cell of a row."""
MOST_PARTS = 2**20
"""Values in a list or an object that a template makes, those inside it included."""
MOST_NUMBER = 1_000_000
"""A number given to a function or filter: a width, a count, a precision."""
_WIDE = re.compile(r"\d{7}")
_GROWING = {"indent", "wordwrap", "tojson", "format", "format_map", "expandtabs", "xmlattr"}
"""Functions whose result may be as long as the product of what they are given."""


class TooMuch(SecurityError):
    """The template wants more than it may have."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the template {what}; nothing that a chat needs does")


def render_bounded(source: str, seen: Mapping[str, Any]) -> tuple[str, list[tuple[int, int]]]:
    """The text that a template makes of what it is shown, and the spans of ``generation`` blocks.

    Raises ``TooMuch`` if it wants more than it may have, else what jinja or the template raises.
    """
    template, limits = _compiled(source)
    noted: Any = template.environment.extensions[Generation.identifier]
    with limits.counting():
        return noted.written(template.generate(**seen)), noted.spans


@functools.lru_cache
def _compiled(source: str) -> tuple[Template, Limits]:
    if len(source) > MOST_SOURCE:
        raise TooMuch(f"is longer than {MOST_SOURCE:,} characters")
    environment = new_environment()
    limits = Limits(environment)
    return limits.compile(environment, source), limits


class Limits:
    """The limits in one environment of jinja, which is that of one template."""

    def __init__(self, environment: Any) -> None:
        self.steps, self.until = 0, time.monotonic() + MOST_SECONDS
        self._refused: TooMuch | None = None
        self._operate, self._call = environment.call_binop, environment.call
        environment.intercepted_binops = frozenset(["+", "*", "**", "%"])
        environment.call_binop = self._operator
        environment.call = self._function
        environment.concat = joined
        environment.step, environment.joined, environment.made = self.step, _texts, made
        self._own = (environment.step, _texts, made)
        environment.globals.pop("lipsum", None)
        for name, run in environment.filters.items():
            environment.filters[name] = _limited(name, run)

    def compile(self, environment: Environment, source: str) -> Template:
        """The template with counters in it. Its constants are worked out within the limits too."""
        tree = _counted(environment.parse(source))
        code = environment.compile(tree)
        template = environment.template_class.from_code(
            environment, code, environment.make_globals(None)
        )
        run = template.root_render_func
        template.root_render_func = lambda context: _measured(run(context))
        return template

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count from nothing inside. A template that wanted too much once is not tried again."""
        if self._refused is not None:
            raise self._refused
        self.steps, self.until = 0, time.monotonic() + MOST_SECONDS
        try:
            yield
        except TooMuch as error:
            self._refused = error
            raise

    def step(self) -> None:
        """Count one turn of a loop or one call of a macro."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise TooMuch(f"takes more than {MOST_STEPS:,} steps")
        if time.monotonic() > self.until:
            raise TooMuch(f"takes more than {MOST_SECONDS:.0f} seconds")

    def _operator(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            _check_product([left, right])
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            if left.bit_length() * abs(right) > MOST_NUMBER:
                raise TooMuch("computes a huge number")
        elif operator == "%" and isinstance(left, str):
            _check_call("format", (left, right))
        return made(self._operate(context, operator, left, right))

    def _function(self, context: Any, function: Any, /, *given: Any, **named: Any) -> Any:
        if function in self._own:
            return function(*given)
        # The sandbox has its own ``str.format``, wrapped around the text's.
        owner = getattr(getattr(function, "__wrapped__", function), "__self__", None)
        values = (*((owner,) if isinstance(owner, str) else ()), *given, *named.values())
        name = getattr(function, "__name__", "")
        _check_call(name, values)
        if name == "join" and isinstance(owner, str) and given:
            given = (_joinable(given[0], owner),)
        return made(self._call(context, function, *given, **named))


def _limited(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose arguments and result are checked."""

    @functools.wraps(run)
    def limited(*given: Any, **named: Any) -> Any:
        _check_call(name, (*given, *named.values()))
        if name == "join":  # the evaluation context, the parts, what is put between them
            between = [value for value in (*given[2:3], named.get("d")) if isinstance(value, str)]
            given = (given[0], _joinable(given[1], "".join(between)), *given[2:])
        return made(run(*given, **named))

    return limited


def _check_call(name: str, values: tuple[Any, ...]) -> None:
    """Raise ``TooMuch`` for what would make a huge text of these values."""
    plain = [value for value in values if isinstance(value, (str, int, float, list, tuple, dict))]
    for value in plain:
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(n, int) and abs(n) > MOST_NUMBER for n in numbers):
            raise TooMuch(f"gives {name or 'a function'} a number over {MOST_NUMBER:,}")
    texts = [value for value in plain if isinstance(value, str)]
    if name in ("format", "format_map") and texts and _WIDE.search(texts[0]):
        raise TooMuch("formats to a huge width")
    if name == "replace" and len(texts) > 2:
        length = len(texts[0]) + texts[0].count(texts[1]) * len(texts[2])
        if length > MOST_CHARACTERS:
            raise _too_long()
    elif name in _GROWING:
        _check_product(plain)


def _joinable(parts: Any, between: str) -> Any:
    """The parts to join, listed; ``TooMuch`` if with what is put between them they are too long."""
    parts = parts if isinstance(parts, (str, list, tuple, dict)) else list(parts)
    if len(parts) * len(between) + _size(list(parts)) > MOST_CHARACTERS:
        raise _too_long()
    return parts


def _check_product(values: list[Any]) -> None:
    *_, less, most = sorted([1, 1, *(_size(value) for value in values)])
    if less * most > 4 * MOST_CHARACTERS:
        raise _too_long()


def _size(value: Any) -> int:
    """About how long a value is as text; for numbers, themselves."""
    if isinstance(value, (list, tuple, dict)):
        parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        return sum(_size(part) if not isinstance(part, int) else 8 for part in parts)
    if isinstance(value, int):
        return min(abs(value), 2**62)
    return len(value) if isinstance(value, str) else 8


def made(value: Any) -> Any:
    """The value, unless it is a text or a list of more than may be made."""
    if isinstance(value, str):
        if len(value) > MOST_CHARACTERS:
            raise _too_long()
    elif isinstance(value, (list, tuple, dict)):
        left = [value]
        count = 0
        while left:
            part = left.pop()
            count += len(part)
            if count > MOST_PARTS:
                raise TooMuch(f"makes a list of more than {MOST_PARTS:,} values")
            inner = part.values() if isinstance(part, dict) else part
            left += [each for each in inner if isinstance(each, (list, tuple, dict))]
    return value


def joined(parts: Iterable[str]) -> str:
    """All parts as one text."""
    return "".join(_measured(parts))


def _texts(*values: Any) -> str:
    """What ``~`` makes of its values."""
    return joined(map(str, values))


def _measured(parts: Iterable[str]) -> Iterator[str]:
    length = 0
    for part in parts:
        length += len(part)
        if length > MOST_CHARACTERS:
            raise _too_long()
        yield part


def _too_long() -> TooMuch:
    return TooMuch(f"makes a text of more than {MOST_CHARACTERS:,} characters")


def _counted(tree: Any) -> Any:
    """The syntax tree with a step in each loop and macro, and measured ``~`` and lists."""
    for node in [*tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock))]:
        node.body.insert(0, nodes.ExprStmt(_call("step", [], node), lineno=node.lineno))
    return _Measure().visit(tree)


class _Measure:
    """Puts calls around expressions that make texts and lists."""

    def visit(self, node: nodes.Node) -> nodes.Node:
        """The node with all below it, measured."""
        for name, value in node.iter_fields():
            if isinstance(value, nodes.Node):
                setattr(node, name, self.visit(value))
            elif isinstance(value, list):
                setattr(
                    node, name, [self.visit(v) if isinstance(v, nodes.Node) else v for v in value]
                )
        if isinstance(node, nodes.Concat):
            return _call("joined", node.nodes, node)
        if isinstance(node, (nodes.List, nodes.Tuple, nodes.Dict)) and _is_made(node):
            return _call("made", [node], node)
        return node


def _is_made(node: nodes.Node) -> bool:
    """Whether an expression makes a list, of more than constants."""
    stored = getattr(node, "ctx", "load") != "load"  # names that a loop assigns to
    return not stored and not all(isinstance(i, nodes.Const) for i in getattr(node, "items", ()))


def _call(name: str, given: list[Any], node: nodes.Node) -> nodes.Expr:
    """A call of the environment's own function, which needs no check of the sandbox."""
    call = nodes.Call(nodes.EnvironmentAttribute(name), given, [], None, None, lineno=node.lineno)
    if node.environment is not None:
        call.set_environment(node.environment)
    return call
