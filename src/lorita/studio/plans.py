"""What runs would take, found out once for all windows that ask the same.

A window that is opened fills in its form field by field, and each field asks anew; every answer
reads the rows. So one is found at a time, and of those that wait only what is still wanted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lorita.settings.file_wishes import as_typed
from lorita.studio.tools import MODEL_WORK, Tools
from lorita.studio.words import Told
from lorita.system.memory import release_freed

if TYPE_CHECKING:
    from lorita.settings.schema import RunSettings
    from lorita.studio.wishes import Wish
    from lorita.workflows.plan import Plan

FRESH = 30.0
"""Seconds for which a plan from shapes is shown again: files and free memory change."""
PATIENCE = 60.0
"""Seconds to wait for the processor."""


class Outdated(Exception):
    """The window has asked something else meanwhile."""


@dataclass
class Plans:
    """The last plan from shapes alone, and the last one whose steps were timed."""

    tools: Tools
    _reckoned: tuple[str, float, Plan | None] = ("", 0.0, None)
    _timed: tuple[str, Plan | None] = ("", None)
    _reckoning: threading.Lock = field(default_factory=threading.Lock)
    _timing: threading.Lock = field(default_factory=threading.Lock)

    def reckoned(self, wish: Wish, is_wanted: Callable[[], bool] = lambda: True) -> Plan:
        """The plan from the shapes of the model and the rows, without weights.

        ``Outdated`` if, when its turn comes, it is not wanted any more.
        """
        with self._reckoning:
            if not is_wanted():
                raise Outdated
            key, made, plan = self._reckoned
            if plan is None or key != _what_counts(wish) or time.monotonic() - made > FRESH:
                plan = self._made(wish.settings, probe=False)
                self._reckoned = (_what_counts(wish), time.monotonic(), plan)
            return plan

    def known(self, wish: Wish) -> Plan | None:
        """The plan whose steps were timed, if it is of the same run."""
        key, plan = self._timed
        return plan if key == _what_counts(wish) else None

    def timed(self, wish: Wish, is_wanted: Callable[[], bool] = lambda: True) -> Plan:
        """The plan with the time of a few steps; ``Told`` if the processor is taken.

        ``Outdated`` as for ``reckoned``.
        """
        with self._timing:
            if not is_wanted():
                raise Outdated
            known = self.known(wish)
            if known is not None:
                return known
            if not MODEL_WORK.acquire(timeout=PATIENCE):
                raise Told("busy")
            try:
                plan = self._made(wish.settings, probe=True)
            finally:
                MODEL_WORK.release()
            self._timed = (_what_counts(wish), plan)
            return plan

    def _made(self, settings: RunSettings, *, probe: bool) -> Plan:
        try:
            return self.tools.plan(as_typed(settings, probe=probe))
        finally:
            release_freed()  # what a thread has freed stays with that thread


def _what_counts(wish: Wish) -> str:
    """The options of a run but for its name, which takes no time."""
    return repr({**wish.options, "output_dir": None})
