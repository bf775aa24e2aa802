"""Progress in a notebook: one display that is updated in place, without widgets.

What has happened stays as lines; below them is what is being done now, with a bar. Where HTML
cannot be shown it is plain text.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from markupsafe import Markup

from lorita.evaluation.notebook_html import LINE, text
from lorita.training.events import Event, Note, PhaseStarted
from lorita.workflows.going_on import Doing, GoingOn

Show = Callable[[Event], None]
EVERY = 0.25
"""Seconds between two updates: more often, they would fill the connection to the browser."""
CELLS = 20
"""Characters of the bar in plain text."""


def in_notebook() -> bool:
    """Whether this is the process of a notebook, which can show HTML.

    Jupyter, Colab, Kaggle, VS Code, Databricks and JupyterLite each have a shell of their own
    class. What they share, and IPython in a terminal lacks, is the kernel behind it.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None


@contextmanager
def notebook_display(line_of: Callable[[Event], str | None]) -> Iterator[Show]:
    """A display in the current cell while the block runs, and what takes the events.

    ``line_of`` says which line an event leaves; None for none.
    """
    import IPython.display

    board = Board(line_of)
    display: Any = IPython.display.display
    handle = display(board, display_id=True)
    over = threading.Event()

    def update() -> None:
        with suppress(Exception):  # whoever looks on may be gone: that does not stop a run
            handle.update(board)

    def refresh() -> None:
        before = repr(board)
        while not over.wait(EVERY):
            if (now := repr(board)) != before:
                update()
                before = now

    # In the context of this cell: the display is updated there, whatever cell runs by then.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(refresh,), daemon=True)
    thread.start()
    try:
        yield board.follow
    finally:
        over.set()
        thread.join()
        board.end()
        update()


class Board:
    """What a cell shows: lines of what happened, and what is going on."""

    def __init__(self, line_of: Callable[[Event], str | None]) -> None:
        self._line_of = line_of
        self._going_on: GoingOn | None = GoingOn()
        self._lines: list[tuple[str, bool]] = []

    def follow(self, event: Event) -> None:
        """Take the next event."""
        if self._going_on is not None:
            self._going_on.follow(event)
        line = None if isinstance(event, PhaseStarted) else self._line_of(event)
        if line is not None:
            self._lines.append((line, isinstance(event, Note) and event.is_warning))

    def end(self) -> None:
        """Nothing is going on any more."""
        self._going_on = None

    def _now(self) -> Doing | None:
        return self._going_on.now() if self._going_on is not None else None

    def __repr__(self) -> str:
        doing = self._now()
        lines = [line for line, _ in self._lines]
        if doing is not None:
            filled = round(CELLS * _share(doing))
            bar = [f"[{'#' * filled}{'.' * (CELLS - filled)}]"] if doing.total else []
            lines.append("  ".join([doing.what, *bar, *doing.details]))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = [_line(line, is_warning) for line, is_warning in self._lines]
        doing = self._now()
        if doing is not None:
            parts.append(_bar(doing))
        return Markup('<div style="font-size: .9em; line-height: 1.5">{}</div>').format(
            Markup("").join(parts)
        )


def _share(doing: Doing) -> float:
    return min(doing.done / doing.total, 1.0) if doing.total else 0.0


def _line(line: str, is_warning: bool) -> Markup:
    edge = "#c98a00" if is_warning else "transparent"
    style = f"border-left: 3px solid {edge}; padding-left: .6em"
    return Markup('<div style="{}">{}</div>').format(style, text(line))


def _bar(doing: Doing) -> Markup:
    """The name, a bar where it is known how much there is, and the details behind it."""
    bar: Any = Markup("")
    if doing.total:
        bar = Markup(
            '<span style="display: inline-block; width: 12em; height: .7em; margin: 0 .8em; '
            'border-radius: .35em; overflow: hidden; background: {}"><span style="display: block; '
            'height: 100%; width: {:.1f}%; background: #2f6fb5"></span></span>'
        ).format(LINE, 100 * _share(doing))
    return Markup('<div style="padding-left: .8em">{}{} {}</div>').format(
        text(doing.what), bar, text("  ".join(doing.details))
    )
