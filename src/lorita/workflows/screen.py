"""The console that tables, previews and progress are drawn on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from lorita.system.terminal_text import shown


class Screen(Console):
    """rich's console, on which text is only ever text: no markup, no emoji codes, no controls.

    Colours are rich's own. Text that was not escaped before it was laid out is escaped when it is
    drawn, so at worst a line gets too long.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **how: Any) -> Text:
        """Plain text, escaped."""
        return super().render_str(shown(text), **how)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """What is drawn; rich's own cursor movements pass."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else shown(text), style, control)


def styled(text: str, style: str = "none") -> Text:
    """Text in one style, escaped: rich's ``Text`` itself would drop some characters."""
    return Text(shown(text), style)


COMMAND = re.compile(r":\s+(?=(?:lorita|ollama|llama-cli|pip|python|torchrun) )")
"""What stands before a command that people copy."""
WORD = re.compile(r"\s*\S+")


def print_text(console: Console, text: str, style: str = "none") -> None:
    """Print sentences, broken between words only; commands to copy and long paths stay whole.

    Where the console is no terminal nothing is broken, so that other programs find whole lines.
    """
    on_terminal = bool(console.file.isatty())
    for line in shown(text).split("\n"):
        for part in lines_of(line, console.width) if on_terminal else [line]:
            console.print(styled(part, style), soft_wrap=True)


def lines_of(line: str, width: int) -> list[str]:
    """A line as lines of at most ``width`` columns; what has no space stays whole.

    So does a command at its end, on a line of its own where the whole does not fit.
    """
    if cell_len(line) <= width:
        return [line]
    found = COMMAND.search(line)
    if found is not None:
        return [*lines_of(line[: found.end()].rstrip(), width), line[found.end() :]]
    lines = [""]
    for word in WORD.findall(line):
        if lines[-1].strip() and cell_len(lines[-1] + word) > width:
            lines.append(word.lstrip())
        else:
            lines[-1] += word
    return lines
