"""The supported part of Go's templates, by examples from Go's documentation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorita.export.ollama.go_template import GoTemplateError, go_string, render_go

DATA = {"Messages": [{"Role": "user", "Content": "hi"}, {"Role": "assistant", "Content": ""}]}
SAME = [
    ("a {{ 1 }} b", "a 1 b"),
    ("a {{- 1 -}} b", "a1b"),
    ("a\n{{- /* a note */ -}}\n b", "ab"),
    ('{{ "}} {{" }}', "}} {{"),
    ("{{ `raw \\n` }}", "raw \\n"),
    ('{{ "line\\n\\u00e9" }}', "line\né"),
    ("{{ .Nothing }}", ""),
    ("{{ range .Messages }}{{ .Role }}:{{ .Content }};{{ end }}", "user:hi;assistant:;"),
    ("{{ range $i, $m := .Messages }}{{ $i }}{{ $m.Role }}{{ end }}", "0user1assistant"),
    ("{{ range .None }}x{{ else }}none{{ end }}", "none"),
    ('{{ $a := "x" }}{{ range .Messages }}{{ $a }}{{ $a = .Role }}{{ end }}{{ $a }}',
     "xuserassistant"),
    ('{{ $a := 1 }}{{ if true }}{{ $a := 2 }}{{ $a }}{{ end }}{{ $a }}', "21"),
    ('{{ if eq 1 2 }}a{{ else if eq "x" "y" "x" }}b{{ else }}c{{ end }}', "b"),
    ('{{ if and (ne "a" "b") (not false) }}yes{{ end }}', "yes"),
    ("{{ if .None }}a{{ else }}b{{ end }}", "b"),
    ("{{ len .Messages }}{{ len $.Messages }}", "22"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "text"), SAME)
def test_examples(source: str, text: str) -> None:
    assert render_go(source, DATA) == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ if true }}a",
        "{{ end }}",
        "{{ $a }}",
        "{{ printf 1 }}",
        "{{ 1 | len }}",
        "{{ .A",
        "{{ 1 2 }}",
    ],
)
def test_refused(source: str) -> None:
    with pytest.raises(GoTemplateError):
        render_go(source, DATA)


@given(st.text())
def test_any_text_as_a_constant(text: str) -> None:
    constant = go_string(text)
    assert constant.isprintable()
    assert '"""' not in constant[1:-1]
    assert render_go("{{- " + constant + " -}}", {}) == text
