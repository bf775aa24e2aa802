"""What the tabs of the page share: widgets that others read or write, and how handlers fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gradio as gr

from lorita.studio.explained import explained
from lorita.studio.wishes import FORM
from lorita.studio.words import Words

if TYPE_CHECKING:
    from lorita.studio.service import Studio


@dataclass
class Parts:
    """Widgets by what they are for, in one language; ``form`` has those of the settings."""

    words: Words
    studio: Studio
    data: Any
    seen: Any
    talk: Any
    run: Any = None
    tabs: Any = None
    form: dict[str, Any] = field(default_factory=dict)
    views: dict[str, Any] = field(default_factory=dict)
    later: list[Callable[[], None]] = field(default_factory=list)
    show_data: Any = None

    @property
    def form_list(self) -> list[Any]:
        """The widgets of the settings, in the order of ``FORM``."""
        return [self.form[name] for name in FORM]

    @property
    def data_views(self) -> list[Any]:
        """What shows how the data is understood: a message and the rows."""
        return [self.views["data_message"], self.views["understood"]]

    @property
    def quietly(self) -> dict[str, Any]:
        """For events: not part of an API, and no veil over what they change."""
        return {"show_progress": "hidden", "api_visibility": "private"}

    @property
    def visibly(self) -> dict[str, Any]:
        """For events that take a while: not part of an API."""
        return {"show_progress": "minimal", "api_visibility": "private"}

    def when_built(self, connect: Callable[[], None]) -> None:
        """Call ``connect`` when all tabs exist: it ties widgets of several of them together."""
        self.later.append(connect)

    def connect(self) -> None:
        """Tie the widgets of all tabs together."""
        for each in self.later:
            each()

    def read(self, values: tuple[Any, ...]) -> dict[str, str]:
        """The values of ``form_list`` by name."""
        return {name: str(v or "") for name, v in zip(FORM, values, strict=True)}


def safely(words: Words, outputs: int, work: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """A handler whose first output is a message: empty, or what was wrong.

    ``work`` returns the ``outputs`` after it; if it raises, they stay as they are.
    """

    def handle(*values: Any) -> list[Any]:
        try:
            return ["", *work(*values)]
        except Exception as error:
            return [explained(words, error), *[gr.skip()] * outputs]

    return handle


def safely_each(
    words: Words, outputs: int, work: Callable[..., Iterator[list[Any]]]
) -> Callable[..., Iterator[list[Any]]]:
    """As ``safely``, for work that shows something several times."""

    def handle(*values: Any) -> Iterator[list[Any]]:
        try:
            for shown in work(*values):
                yield ["", *shown]
        except Exception as error:
            yield [explained(words, error), *[gr.skip()] * outputs]

    return handle
