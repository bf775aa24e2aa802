"""The console that tables, previews and progress are drawn on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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
