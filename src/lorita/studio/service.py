"""What all windows of a studio share, and what the page asks of it, without widgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lorita.errors import UserError
from lorita.settings.build import build_settings
from lorita.studio.explained import explained
from lorita.studio.forecast import forecast
from lorita.studio.html import quiet
from lorita.studio.jobs import Jobs
from lorita.studio.plans import Plans
from lorita.studio.talk import Models
from lorita.studio.tools import Tools
from lorita.studio.understood import understood
from lorita.studio.wishes import Wish, read_options, read_wish
from lorita.studio.words import Told, Words
from lorita.studio.workspace import Workspace

MOST_WINDOWS = 100
"""Windows whose last question is remembered."""


@dataclass
class Studio:
    """A workspace with its jobs and the model to chat with."""

    workspace: Workspace
    tools: Tools
    models: Models = field(init=False)
    jobs: Jobs = field(init=False)
    latest: dict[str, str] = field(default_factory=dict)
    """What each window has asked a forecast of last: an older one must not replace it."""
    plans: Plans = field(init=False)

    def __post_init__(self) -> None:
        self.jobs = Jobs(self.workspace)
        self.models = Models(self.tools)
        self.plans = Plans(self.tools)

    def asks(self, window: str, what: str) -> None:
        """Note what a window has asked a forecast of; those closed long ago are forgotten."""
        self.latest.pop(window, None)
        self.latest[window] = what
        for oldest in list(self.latest)[:-MOST_WINDOWS]:
            self.latest.pop(oldest, None)  # the pages of two languages may do it at once

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

    def forecast(self, words: Words, wish: Wish, is_wanted: Callable[[], bool]) -> str:
        """The forecast as HTML, from shapes alone unless its steps were timed before.

        ``Outdated`` if, when its turn comes, it is not wanted any more.
        """
        plan = self.plans.reckoned(wish, is_wanted)
        if self.jobs.running() is not None:
            return forecast(words, plan, words("no_timing_now"))
        if not wish.settings.probe:
            return forecast(words, plan)
        known = self.plans.known(wish)
        return forecast(words, known or plan, "" if known else words("forecasting"))

    def timed_forecast(self, words: Words, wish: Wish, is_wanted: Callable[[], bool]) -> str | None:
        """The forecast after steps were timed, which takes seconds or longer.

        None where nothing is timed. ``Outdated`` as for ``forecast``.
        """
        if self.jobs.running() is not None or not wish.settings.probe:
            return None
        try:
            return forecast(words, self.plans.timed(wish, is_wanted))
        except (Told, UserError) as error:
            plan = self.plans.reckoned(wish)
            return forecast(words, plan, words("not_timed")) + explained(words, error)

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
