"""A preview in a terminal: figures, a histogram, rows token by token, problems."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from lorita.cli.render import UNBROKEN, console
from lorita.data.tokens.token_view import glyphs
from lorita.system.terminal_text import shown
from lorita.workflows.preview_words import facts

if TYPE_CHECKING:
    from rich.text import Text

    from lorita.data.lengths import Bin
    from lorita.data.quality.problems import Problem
    from lorita.data.tokens.token_view import RowView, Token
    from lorita.workflows.preview import Preview

LABEL, BAR = 10, 40
HEAD, TAIL = 32, 8
"""Tokens shown at each end of a long stretch; the page and the JSON have them all."""
STYLES = {"trained": "green", "masked": "bright_black", "special": "bold magenta"}


def print_preview(found: Preview) -> None:
    """Print the whole preview, except the tokens in the middle of long rows."""
    from lorita.workflows.screen import styled

    out = console()
    width = min(out.width, 100)
    prose = width if out.width < UNBROKEN else 0  # other programs find whole lines
    for label, text in facts(found):
        for i, line in enumerate(_wrapped(text, prose) or [""]):
            out.print(styled((label if i == 0 else "").ljust(LABEL), "bold").append(line, "none"))
    out.print()
    out.print("Tokens per row", style="bold")
    for line in histogram(found.histogram):
        out.print(line)
    for view in found.first_rows:
        out.print()
        said = f"Row {view.row}: {len(view.tokens):,} tokens, {view.trained:,} trained"
        out.print(said, style="bold")
        for drawn in token_lines(view, width):
            out.print(drawn)
    out.print()
    for drawn in problem_lines(found.problems, prose):
        out.print(drawn)


def _wrapped(text: str, width: int) -> list[str]:
    if not width:
        return [shown(text)]
    return textwrap.wrap(shown(text), width - LABEL, break_on_hyphens=False, break_long_words=False)


def histogram(bins: Sequence[Bin]) -> Iterator[str]:
    """A line for each bin: its range, a bar and the number of rows."""
    most = max((each.rows for each in bins), default=1)
    names = [f"{each.start:,} to {each.end:,}" for each in bins]
    for each, name in zip(bins, names, strict=True):
        bar = "█" * round(BAR * each.rows / most) or ("▏" if each.rows else "")
        yield f"{name.rjust(max(map(len, names)))}  {bar} {each.rows:,}".rstrip()


def token_lines(view: RowView, width: int) -> Iterator[Text]:
    """Stretches of trained and of masked tokens, a bar between tokens."""
    from rich.cells import cell_len
    from rich.text import Text

    for trained, run in groupby(view.tokens, key=lambda token: token.trained):
        kind = "trained" if trained else "masked"
        line = Text(f" {kind}".ljust(LABEL), "bold")
        for piece, style in _pieces(list(run), STYLES[kind]):
            if line.cell_len > LABEL and line.cell_len + cell_len(piece) > width:
                yield line
                line = Text(" " * LABEL)
            line.append(piece, style)
        yield line


def _pieces(tokens: Sequence[Token], style: str) -> Iterator[tuple[str, str]]:
    left = len(tokens) - HEAD - TAIL
    shown = [*tokens[:HEAD], *tokens[-TAIL:]] if left > 0 else tokens
    for i, token in enumerate(shown):
        if left > 0 and i == HEAD:
            yield f" … {left:,} more … ", "italic"
        bar = "" if i == len(shown) - 1 else "│"
        yield glyphs(token) + bar, STYLES["special"] if token.special else style


def problem_lines(problems: Sequence[Problem], width: int) -> Iterator[Text]:
    """Each problem, with its rows and how to fix it."""
    from rich.text import Text

    if not problems:
        yield Text("No problems found.", "bold")
        return
    yield Text("Problems", "bold")
    for found in problems:
        mark = "error" if found.stops else "•"
        for i, line in enumerate(_wrapped(str(found), width)):
            head = f"{mark.rjust(LABEL - 2)}  " if i == 0 else " " * LABEL
            yield Text(head, "red" if found.stops else "none").append(line, "none")
        for line in _wrapped(found.fix, width):
            yield Text(" " * LABEL + line, "bright_black")
