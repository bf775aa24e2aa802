"""The workflows that the page calls, handed in by whoever starts a studio.

The page itself imports none of them, so that it stays shallow and can be tested without models.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorita.inference.conversation import Conversation
    from lorita.inference.tuned_model import TunedModel
    from lorita.settings.schema import RunSettings
    from lorita.workflows.plan import Plan
    from lorita.workflows.preview import Preview
    from lorita.workflows.runs import RunLine

MODEL_WORK = threading.Lock()
"""Held by who computes with a model in this process: two at once would only slow each other."""


@dataclass(frozen=True)
class Tools:
    """``look`` previews data, ``plan`` forecasts a run, ``runs`` lists those of a folder.

    ``open`` loads a run to talk with, and ``converse`` begins a conversation, in which at most so
    many tokens are answered, with the turns that were before.
    """

    look: Callable[[RunSettings], Preview]
    plan: Callable[[RunSettings], Plan]
    runs: Callable[[Path], list[RunLine]]
    open: Callable[[Path], TunedModel]
    converse: Callable[[TunedModel, int, list[dict[str, str]]], Conversation]
