"""A run, a preview and a sweep as a notebook shows them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from lorita.data.tokens.token_view import glyphs
from lorita.errors import UserError
from lorita.evaluation.notebook_html import paragraphs, table
from lorita.runs.report.page import loss_file
from lorita.runs.report.story import read_story
from lorita.runs.report.words import state, summary
from lorita.workflows.preview_words import facts

if TYPE_CHECKING:
    from lorita.data.tokens.token_view import Token
    from lorita.workflows.preview import Preview
    from lorita.workflows.sweep_result import SweepResult

HEAD, TAIL = 60, 12
"""Tokens shown at each end of a row."""
TRAINED = "rgba(47, 158, 68, .28)"
"""The background of trained tokens, seen on white and on black."""


def run_html(folder: Path) -> str:
    """What was trained on what, the loss curve and the proof of the run in ``folder``."""
    try:
        story = read_story(folder)
    except UserError as error:  # the folder was moved or deleted since
        return paragraphs([f"Run in {folder}", *error.problems])
    curve = loss_file(story)
    proof = story.comparison.proof if story.comparison else None
    said = [summary(story), *([found] if (found := state(story)) else [])]
    parts = [paragraphs(said)]
    if curve is not None:
        parts.append(_picture(curve, "Loss, nats per token"))
    parts.append(paragraphs([*(proof.sentences() if proof else []), f"Saved in {folder}"]))
    return Markup("").join(parts)


def _picture(svg: str, name: str) -> Markup:
    """An SVG file as a picture of its own, so that its style sheet stays out of the page."""
    data = base64.b64encode(svg.encode()).decode()
    return Markup(
        '<img alt="{}" style="width: 36em; max-width: 100%" src="data:image/svg+xml;base64,{}">'
    ).format(name, data)


def preview_html(found: Preview) -> str:
    """How the data is understood, its first rows token by token, and its problems."""
    known = table(("", "understood as"), facts(found))
    rows = [
        (f"row {view.row}", f"{len(view.tokens):,} tokens, {view.trained:,} trained",
         _tokens(view.tokens))
        for view in found.first_rows
    ]  # fmt: skip
    heading = Markup('<span style="background: {}">trained</span> tokens are coloured').format(
        TRAINED
    )
    problems: list[str] = [f"{each}. {each.fix}" for each in found.problems]
    return Markup("").join(
        [
            known,
            table(("", "", heading), rows),
            paragraphs(problems or ["No problems found."]),
        ]
    )


def _tokens(tokens: Sequence[Token]) -> Markup:
    left = len(tokens) - HEAD - TAIL
    kept = [*tokens[:HEAD], *tokens[-TAIL:]] if left > 0 else tokens
    pieces = [_token(token) for token in kept]
    if left > 0:
        pieces.insert(HEAD, Markup("<i> … {} more … </i>").format(f"{left:,}"))
    return Markup('<code style="white-space: pre-wrap">{}</code>').format(
        Markup("\u200b").join(pieces)
    )


def _token(token: Token) -> Markup:
    style = f"background: {TRAINED}" if token.trained else "opacity: .65"
    if token.special:
        style += "; font-weight: bold"
    return Markup('<span style="{}; border-right: 1px solid">{}</span>').format(
        style, glyphs(token)
    )


def sweep_html(found: SweepResult) -> str:
    """A line for each run, the best one first, and what the best values are next to."""
    names = list(found.runs[0].values) if found.runs else []
    runs = sorted(found.runs, key=lambda run: (run.held_out is None, run.held_out or 0.0))
    rows = [
        (*(run.values[name] for name in names),
         "" if run.held_out is None else f"{run.held_out:.4f}",
         "best" if run is found.best else run.failed or "")
        for run in runs
    ]  # fmt: skip
    base = found.held_out_base
    said = [] if base is None else [f"Held-out loss of the base: {base:.4f} nats per token"]
    sentences = [*said, *found.edges(), f"Saved in {found.path}"]
    return table((*names, "held-out loss", ""), rows) + paragraphs(sentences)
