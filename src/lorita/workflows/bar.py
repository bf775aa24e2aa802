"""The line at the bottom of a terminal: what is being done, a bar, and how far it is.

It is shortened to fit the terminal, and the bar stays: what matters least is left out first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from lorita.training.events import Event
from lorita.workflows.going_on import GoingOn
from lorita.workflows.screen import Screen, styled

WIDEST, NARROWEST = 24, 6
"""Columns of the bar."""
MARGIN = 3
"""Columns left free: Ctrl-C writes ^C there, and a line that wraps cannot be wiped away again."""


class Bar:
    """Draws what is going on as one line."""

    def __init__(self) -> None:
        self._going_on = GoingOn()

    def follow(self, event: Event) -> None:
        """Take the next event of the run."""
        self._going_on.follow(event)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        doing = self._going_on.now(curve=not options.ascii_only)
        if doing is None:
            yield Text("")
            return
        width = options.max_width - MARGIN
        yield from _line(width, doing.what, doing.details, doing.total, doing.done)


def _line(
    width: int, before: str, after: Sequence[str], total: float | None, done: float
) -> Iterator[Text | ProgressBar]:
    """One line of at most ``width`` columns; of ``after``, the last parts are left out first."""
    kept = list(after)
    while kept and cell_len("  ".join([before, *kept])) + NARROWEST + 1 > width:
        kept.pop()
    behind = "".join(f"  {part}" for part in kept)
    label = Text(before)
    label.truncate(max(width - cell_len(behind) - NARROWEST - 1, 0), overflow="ellipsis")
    bar = min(WIDEST, max(0, width - label.cell_len - 1 - cell_len(behind)))
    yield _piece(f"{label.plain} ")
    if bar:
        yield ProgressBar(total, min(done, total or 0), width=bar, pulse=total is None)
    yield _piece(behind)


def _piece(text: str) -> Text:
    piece = styled(text)
    piece.end, piece.no_wrap = "", True
    return piece


@contextmanager
def drawn_bar() -> Iterator[tuple[Bar, Console]]:
    """A bar at the bottom of the terminal while the block runs, and the console to print above."""
    bar, console = Bar(), Screen(stderr=True)
    with Live(bar, console=console, transient=True, refresh_per_second=8):
        yield bar, console
