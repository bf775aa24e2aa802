"""Results as HTML in a notebook: small tables and sentences, without scripts and style sheets.

Text of rows, prompts and answers is text of strangers: ``markupsafe`` escapes all that is put into
markup. Colours are the notebook's own, so that its light and dark themes both suit, and so do pages
that remove styles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from lorita.system.terminal_text import shown

LINE = "rgba(128, 128, 128, .4)"
"""A grey that is seen on white and on black."""
CELL = f"text-align: left; vertical-align: top; padding: .4em .8em; border-top: 1px solid {LINE}"
MOST_SHOWN = 2000
"""Characters of a text that a cell shows."""


def text(value: object, *, most: int = MOST_SHOWN) -> Markup:
    """Any text, escaped; line breaks stay, and what is longer than ``most`` characters is cut."""
    plain = shown(str(value).strip())
    if len(plain) > most:
        plain = f"{plain[:most]} …"
    return Markup("<br>").join(plain.split("\n"))


def paragraphs(sentences: Iterable[object]) -> Markup:
    """Each sentence as a paragraph."""
    made = (Markup('<p style="margin: .4em 0">{}</p>').format(text(each)) for each in sentences)
    return Markup("").join(made)


def table(headings: Sequence[object], rows: Iterable[Sequence[object]]) -> Markup:
    """A table; cells that are not markup yet are escaped."""
    head = _row(headings, Markup('<th scope="col" style="{}">{}</th>'))
    body = Markup("").join(_row(row, Markup('<td style="{}">{}</td>')) for row in rows)
    return Markup(
        '<table style="border-collapse: collapse; margin: .6em 0">'
        "<thead>{}</thead><tbody>{}</tbody></table>"
    ).format(head, body)


def _row(cells: Sequence[object], form: Markup) -> Markup:
    made = (form.format(CELL, cell if isinstance(cell, Markup) else text(cell)) for cell in cells)
    return Markup("<tr>{}</tr>").format(Markup("").join(made))
