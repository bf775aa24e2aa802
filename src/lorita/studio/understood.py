"""How data was understood, as a part of the page: figures, problems, rows token by token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from lorita.data.tokens.token_view import RowView, glyphs
from lorita.studio.html import joined, table
from lorita.studio.messages import language_remark, said, said_list, translated
from lorita.studio.words import Words

if TYPE_CHECKING:
    from lorita.data.quality.problems import Problem
    from lorita.workflows.preview import Preview, Spread

MOST_TOKENS = 400
"""Tokens of a row that are shown."""


def understood(words: Words, found: Preview) -> str:
    """The HTML of a preview; all text of strangers is escaped."""
    problems = [
        Markup('<li class="{kind}">{stops}{what} <span class="quiet">{fix}</span></li>').format(
            kind="stops" if problem.stops else "",
            stops=Markup("<strong>{}</strong> ").format(words("stops")) if problem.stops else "",
            what=_problem(words, problem),
            fix=said(words, problem.fix),
        )
        for problem in found.problems
    ]
    texts = [text for problem in found.problems for text in (problem.what, problem.fix)]
    parts = [
        Markup("<h3>{}</h3>").format(words("understood")),
        table(facts(words, found)),
        Markup("<h3>{}</h3>").format(words("problems")),
        Markup('<ul class="problems">{}</ul>').format(Markup("").join(problems))
        if problems
        else Markup("<p>{}</p>").format(words("no_problems")),
        language_remark(words, texts),
        Markup("<h3>{}</h3>").format(words("first_rows")),
        Markup('<p class="key"><b class="t">{}</b> <b>{}</b></p>').format(
            words("trained"), words("masked")
        ),
        *(_row(words, row) for row in found.first_rows),
    ]
    return joined(parts)


def _problem(words: Words, problem: Problem) -> Markup:
    """Which rows, and what is wrong with them; the example is part of somebody's text."""
    example = ""
    if problem.example:
        example = f" ({translated(words, problem.example) or problem.example})"
    return Markup("{}: {}{}").format(said(words, problem.where), said(words, problem.what), example)


def facts(words: Words, found: Preview) -> Iterator[tuple[str, object]]:
    """The figures of a preview in the page's language: a label and a value each."""
    yield words("data"), found.origin
    yield words("read_as"), said(words, found.reading)
    rows = words(
        "rows_figures", rows=found.rows, train=found.train_rows, held_out=found.held_out_rows
    )
    if found.unusable_rows:
        rows += f"; {words('unusable', count=found.unusable_rows)}"
    yield words("rows"), rows
    yield words("tokens"), _spread(words, found.lengths)
    kept = found.lengths.total - found.tokens_cut
    share = f"{100 * found.trained.total / kept:.0f}" if kept else "0"
    trained = _spread(words, found.trained)
    yield words("trained_tokens"), f"{trained} ({words('share', share=share)})"
    if found.rows_cut or found.rows_split or found.rows_dropped:
        yield (
            words("cut"),
            words(
                "cut_figures",
                cut=found.rows_cut,
                split=found.rows_split,
                dropped=found.rows_dropped,
                tokens=found.tokens_cut,
            ),
        )
    yield words("model"), words("read_with", model=found.model)
    if found.notes:
        yield words("notes"), said_list(words, found.notes)


def _spread(words: Words, spread: Spread) -> str:
    return words(
        "spread",
        least=spread.least,
        most=spread.most,
        median=spread.median,
        total=spread.total,
    )


def _row(words: Words, row: RowView) -> Markup:
    tokens = Markup("").join(_tokens(row))
    left = len(row.tokens) - MOST_TOKENS
    more = words("more_tokens", count=left) if left > 0 else ""
    said = words("row", row=row.row, tokens=len(row.tokens), trained=row.trained)
    return Markup('<p class="row-said">{}</p><div class="tokens">{}<span>{}</span></div>').format(
        said, tokens, more
    )


def _tokens(row: RowView) -> Iterator[Markup]:
    for token in row.tokens[:MOST_TOKENS]:
        kinds = " ".join(k for k, on in (("t", token.trained), ("s", token.special)) if on)
        yield Markup('<b class="{}">{}</b>').format(kinds, escape(glyphs(token)))
        if token.text.endswith("\n"):
            yield Markup("<br>")
