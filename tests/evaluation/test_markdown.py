"""What rows and models write is text in compare.md and the model card, never markup."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from lorita.evaluation.comparison import compared
from lorita.evaluation.markdown import code, escaped, one_line, python_string, quote

TEXTS = [
    "<script>alert(1)</script>",
    "[click](javascript:alert(1)) and ![x](http://tracker.example/a.png)",
    "a | b | c\n--- | --- | ---\n1 | 2 | 3",
    "```\ncode\n```",
    "# a heading\n## another\nUnderlined\n=====\n- item\n+ item\n* item\n1. one\n2) two",
    "**bold** __bold__ *it* _it_ ~~gone~~ snake_case `code` $x^2$ &lt; &#60; \\* \\",
    "> quoted\n>> twice",
    "[ref]: http://example.com\n[ref]",
]


@pytest.mark.parametrize("text", TEXTS)
def test_markdown_shows_the_text_itself(text: str) -> None:
    reader = MarkdownIt("commonmark").enable("table").enable("strikethrough")
    [opened, inline, closed] = reader.parse(escaped(text))
    assert (opened.type, closed.type) == ("paragraph_open", "paragraph_close")
    assert {child.type for child in inline.children} <= {"text", "softbreak", "text_special"}
    seen = "".join("\n" if c.type == "softbreak" else c.content for c in inline.children)
    assert seen == text
    kinds = {token.type for token in reader.parse(f"{quote(text)}\n\n# {one_line(text)}")}
    assert kinds <= {
        f"{kind}_{end}"
        for kind in ("blockquote", "paragraph", "heading")
        for end in ("open", "close")
    } | {"inline"}


def test_code_and_python_strings_stay_closed() -> None:
    [_, inline, _] = MarkdownIt("commonmark").parse(code("a`b``c\n<b>"))
    assert [(c.type, c.content) for c in inline.children] == [("code_inline", "a`b``c <b>")]
    assert eval(python_string('run"\n```\x9b')) == 'run"\n```\x9b'
    assert "\n" not in python_string("a\nb") and "\x9b" not in python_string("\x9b")


def test_compare_md_holds_no_markup_and_no_controls_of_others() -> None:
    text = str(compared("my|model", ["a\n# prompt"], ["<b>\x1b[31m"], ["\u202e# x"]))
    assert r"> \<b\>\x1b\[31m" in text and r"## a # prompt" in text and "\u202e" not in text
