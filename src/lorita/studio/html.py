"""Small parts of the page. Texts of strangers go through ``Markup.format``, which escapes them."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from markupsafe import Markup

from lorita.studio.words import Words
from lorita.system.terminal_text import shown


def joined(parts: Iterable[str]) -> str:
    """Parts as the HTML of one component, without what turns the direction of text."""
    return shown(str(Markup("").join(parts)))


def table(rows: Iterable[tuple[str, object]]) -> Markup:
    """Labels and values, one pair per line."""
    lines = (Markup("<dt>{}</dt><dd>{}</dd>").format(label, value) for label, value in rows)
    return Markup('<dl class="facts">{}</dl>').format(Markup("").join(lines))


def remark(text: str) -> Markup:
    """A sentence of less weight."""
    return Markup('<p class="quiet">{}</p>').format(text)


def quiet(text: str) -> str:
    """A remark alone, as the HTML of a component that has nothing to show yet."""
    return joined([remark(text)])


def heading(text: str) -> Markup:
    """The title of a part of a tab."""
    return Markup("<h3>{}</h3>").format(text)


def link(href: str, text: str, *, download: str | None = None, new_tab: bool = False) -> Markup:
    """A link that looks like a button; with ``download``, the browser saves it as that name.

    Without that attribute the browser would take it for leaving the page, and gradio would end it.
    """
    more = Markup(' download="{}"').format(download) if download is not None else Markup("")
    more += Markup(' target="_blank" rel="noopener"') if new_tab else Markup("")
    return Markup('<a class="button" href="{}"{}>{}</a>').format(href, more, text)


def data_link(content: str, name: str, text: str) -> Markup:
    """A link that saves ``content`` as a file without asking the server."""
    return link(f"data:text/plain;charset=utf-8,{quote(content)}", text, download=name)


def pair(words: Words, base: Markup, tuned: Markup) -> Markup:
    """Two answers side by side, or below each other on a phone."""
    return Markup(
        '<div class="pair"><div class="answer"><h4>{}</h4><div>{}</div></div>'
        '<div class="answer"><h4>{}</h4><div>{}</div></div></div>'
    ).format(words("base"), base, words("tuned"), tuned)
