"""What all windows of a studio share, and what the page asks of it, without widgets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.errors import UserError
from lorita.settings.build import build_settings
from lorita.studio.forecast import forecast, reckoned, timed
from lorita.studio.html import explained, quiet
from lorita.studio.jobs import Jobs
from lorita.studio.talk import Models
from lorita.studio.tools import Tools
from lorita.studio.understood import understood
from lorita.studio.wishes import Wish, read_options, read_wish
from lorita.studio.words import Told, Words
from lorita.studio.workspace import Workspace

if TYPE_CHECKING:
    from lorita.workflows.plan import Plan


@dataclass
class Studio:
    """A workspace with its jobs and the model to chat with."""

    workspace: Workspace
    tools: Tools
    models: Models = field(init=False)
    jobs: Jobs = field(init=False)
    version: int = 0
    """Counts what was asked for, so that a forecast that is no longer wanted ends early."""
    _timed: tuple[str, Plan | None] = ("", None)
    """The last options whose steps were timed, and their plan: opening a window times nothing."""

    def __post_init__(self) -> None:
        self.jobs = Jobs(self.workspace)
        self.models = Models(self.tools)

    def wish(self, words: Words, data: str, form: Mapping[str, str]) -> Wish:
        """The run that the form asks for; it is kept for windows that are opened later."""
        self.workspace.draft.data = data or self.workspace.draft.data
        self.workspace.draft.fields = dict(form)
        return read_wish(self.workspace, data, form, decimal=words.decimal)

    def look(self, words: Words, data: str, form: Mapping[str, str]) -> str:
        """How the data is understood, as HTML; ``Told`` or ``UserError`` if it is not."""
        if not data:
            return quiet(words("no_data_yet"))
        self.workspace.draft.data = data
        try:
            settings = build_settings(**read_options(data, form, decimal=words.decimal))
        except (
            Told,
            UserError,
        ):  # the form is not finished; the data can be looked at all the same
            model = (form.get("model") or "").strip()
            if not model:
                raise Told("no_model") from None
            settings = build_settings(model=model, data=[data])
        return understood(words, self.tools.look(settings))

    def forecasts(self, words: Words, wish: Wish) -> Iterator[str]:
        """The forecast as HTML: at once from shapes, then from timed steps."""
        self.version += 1
        version = self.version
        plan = reckoned(self.tools, wish.settings)
        if self.jobs.running() is not None:
            yield forecast(words, plan, words("no_timing_now"))
            return
        if not wish.settings.probe:
            yield forecast(words, plan)
            return
        key = repr({**wish.options, "output_dir": None})
        if self._timed[0] != key:
            yield forecast(words, plan, words("forecasting"))
            if version != self.version:
                return
            try:
                self._timed = (key, timed(self.tools, wish.settings))
            except (Told, UserError) as error:
                yield forecast(words, plan) + explained(words, error)
                return
        yield forecast(words, self._timed[1] or plan)

    def start(self, words: Words, data: str, form: Mapping[str, str]) -> str:
        """Begin the run that the form asks for; returns its name."""
        wish = self.wish(words, data, form)
        name = self.jobs.start(wish)
        self.models.release()
        return name

    def shown_run(self, wanted: str | None) -> str | None:
        """The run to show: the wanted one, else the one that trains, else the newest."""
        names = self.jobs.names()
        if wanted in names:
            return wanted
        return self.jobs.running() or (names[0] if names else None)

    def folder(self, name: str) -> Path:
        """The folder of a run that exists or is about to."""
        return self.workspace.folder / name
