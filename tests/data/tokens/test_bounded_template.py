"""A template that never ends, or makes a huge text, is refused within seconds and little memory."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lorita.data.tokens import bounded_template
from lorita.data.tokens.chat_template import ChatTemplate, TemplateError
from lorita.data.tokens.choose_template import FOLDER

CHAT = [{"role": "user", "content": "a" * 1000}, {"role": "assistant", "content": "b"}]
DOUBLE = "{% set n = namespace(x='a'*1000) %}{% for i in range(99) %}{% set n.x = OF %}{% endfor %}"
LIST = DOUBLE.replace("'a'*1000", "[1]")
HOSTILE = {
    "a long range": "{% for i in range(10**9) %}{% endfor %}",
    "loops in loops": "{% for i in range(99999) %}{% for j in range(99999) %}"
    "{% endfor %}{% endfor %}",
    "three loops": "{% for i in range(9999) %}{% for j in 'a'*9999 %}{% for k in 'b'*9 %}"
    "{% endfor %}{% endfor %}{% endfor %}",
    "a filter over loops": "{% for i in range(99999) %}{{ range(99999)|sum }}{% endfor %}",
    "a macro of itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "macros twice": "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}"
    "{{ m(99) }}",
    "a recursive loop": "{% for i in range(99) recursive %}{{ loop(range(99)) }}{% endfor %}",
    "a wide text": "{{ 'a' * 10**10 }}",
    "a wide list": "{{ [0] * 10**9 }}",
    "a power": "{{ 10 ** (10 ** 10) }}",
    "a power of a variable": "{% set n = 10 %}{{ n ** (n ** n) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "percent of a variable": "{% set w = '%1000000000d' %}{{ w % 1 }}",
    "percent star": "{{ '%*d' % (10**9, 1) }}",
    "a precision": "{{ '%.1000000000f' % 1.5 }}",
    "percents": "{% set n = 'a'*10**7 %}{{ ('%s'*10000) % ((n,)*10000) }}",
    "percents by name": "{% set n = {'a': 'a'*10**7} %}{{ ('%(a)s'*100000) % n }}",
    "a format": "{{ '{:>1000000000}'.format(1) }}",
    "a nested format": "{{ '{:>{w}}'.format(1, w=10**9) }}",
    "a format of names": "{% set x = 'a'*10**6 %}{{ ('{0}'*10**6).format(x) }}",
    "the format filter": "{{ '%1000000000d'|format(1) }}",
    "center": "{{ 'a'|center(10**9) }}",
    "center of a variable": "{% set n = 10**9 %}{{ messages[0].content|center(n) }}",
    "ljust": "{{ 'a'.ljust(10**9) }}",
    "zfill": "{{ 'a'.zfill(width) }}".replace("width", "10**9"),
    "expandtabs": "{{ ('\t'*10**6).expandtabs(10**6) }}",
    "indent": "{{ ('a\n'*10**5)|indent(10**6) }}",
    "indented json": "{{ range(10000)|list|tojson(indent=10**6) }}",
    "replace": "{{ ('a'*10**6)|replace('a', 'b'*10**6) }}",
    "replace a method": "{{ ('a'*10**6).replace('a', 'b'*10**6) }}",
    "replace nothing": "{{ ('a'*10**6).replace('', 'b'*10**6) }}",
    "join": "{{ range(99999)|join('a'*10**6) }}",
    "join a method": "{{ ('a'*10**6).join('b'*10**6) }}",
    "join a generator": "{{ range(99999)|map('string')|join('a'*10**6) }}",
    "wordwrap": "{{ ('a'*10**6)|wordwrap(1, true, 'b'*10**6) }}",
    "doubling with ~": DOUBLE.replace("OF", "n.x ~ n.x"),
    "doubling with +": DOUBLE.replace("OF", "n.x + n.x"),
    "doubling with *": DOUBLE.replace("OF", "n.x * 2"),
    "doubling with join": DOUBLE.replace("OF", "[n.x, n.x]|join"),
    "doubling with format": DOUBLE.replace("OF", "'{0}{0}'.format(n.x)"),
    "doubling a block": "{% set n = namespace(x='a') %}{% for i in range(99) %}"
    "{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}{% endfor %}",
    "doubling lists": LIST.replace("OF", "n.x + n.x"),
    "lists in lists": LIST.replace("OF", "[n.x, n.x]") + "{{ n.x }}",
    "tuples in tuples": LIST.replace("OF", "(n.x, n.x)") + "{{ n.x|string }}",
    "objects in objects": LIST.replace("OF", "{'a': n.x, 'b': n.x}") + "{{ n.x|tojson }}",
    "dicts in dicts": LIST.replace("OF", "dict(a=n.x, b=n.x)") + "{{ n.x|tojson }}",
    "batches": LIST.replace("OF", "[n.x, n.x]|batch(2)|list") + "{{ n.x }}",
    "a long output": "{% set x = 'a'*10**6 %}{% for i in range(99999) %}{{ x }}{% endfor %}",
    "a long macro": "{% macro m(x) %}{% for i in range(99999) %}{{ x }}{% endfor %}{% endmacro %}"
    "{{ m('a'*10**6) }}",
    "lorem ipsum": "{{ lipsum(n=10**6) }}",
    "a rounding": "{{ 1.5|round(10**9, 'ceil') }}",
    "deep nesting": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "deep blocks": "{% if 1 %}" * 500 + "{% endif %}" * 500,
    "a long source": "{{ 1 }}" * 200_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_too_much_is_refused(name: str) -> None:
    start = time.process_time()
    with pytest.raises(TemplateError, match="chat template error: ") as caught:
        ChatTemplate(name, HOSTILE[name]).render(CHAT)
    assert "MemoryError" not in str(caught.value)
    assert time.process_time() - start < 20


@pytest.mark.parametrize(
    ("most", "value", "named"),
    [("MOST_STEPS", 1000, "more than 1,000 steps"), ("MOST_SECONDS", 0.05, "seconds")],
)
def test_both_limits_hold_by_themselves(
    most: str, value: float, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit, far in (("MOST_STEPS", 10**12), ("MOST_SECONDS", 10.0**6)):
        monkeypatch.setattr(bounded_template, limit, value if limit == most else far)
    with pytest.raises(TemplateError, match=named):
        ChatTemplate("some", HOSTILE["three loops"] + "{# " + most + " #}").render(CHAT)


def test_ordinary_joins_and_lists_render() -> None:
    source = "{{ ['a', messages[0].role]|join(', ') }}{{ messages|map(attribute='role')|join }}"
    source += (
        "{{ ''.join('abc') }}{{ ['a'] + [messages[1].content] }}{{ '%5.1f|%s' % (1.25, 'x') }}"
    )
    source += (
        "{% for a, b in [('x', 1), ('y', messages|length)] %}{{ loop.length ~ a ~ b }}{% endfor %}"
    )
    assert ChatTemplate("some", source).render(CHAT) == (
        "a, useruserassistantabc['a', 'b']  1.2|x2x12y2"
    )


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.jinja")), ids=lambda file: file.stem)
def test_a_chat_of_any_length_renders_as_in_transformers(file: Path) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    source = file.read_text(encoding="utf-8")
    chat = [*CHAT * 500, {"role": "user", "content": "x" * 10**6}]
    template = ChatTemplate(file.stem, source, {"bos_token": "<s>", "eos_token": "</s>"})
    for ask in (False, True):
        text, _ = render_jinja_template(
            [chat], chat_template=source, add_generation_prompt=ask, **template.special
        )
        assert template.render(chat, ask=ask) == text[0]
