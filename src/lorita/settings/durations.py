"""Times as people type them: ``90s``, ``5m``, ``1h30m``."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from lorita.settings.types import Written

_NUMBER = r"(\d+(?:\.\d+)?)"
_TIME = re.compile(f"(?:{_NUMBER}h)?(?:{_NUMBER}(?:m|min))?(?:{_NUMBER}s)?")


def _seconds(value: Any) -> Any:
    """``90s``, ``5m``, ``1h30m`` and plain numbers of seconds; ``1h30`` could mean two things."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    text = str(value).strip().lower().replace(" ", "")
    if re.fullmatch(_NUMBER, text):
        return float(text)
    found = _TIME.fullmatch(text)
    if not text or found is None:
        raise ValueError("should be a time such as 90s, 5m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


Seconds = Annotated[float, BeforeValidator(_seconds), Field(allow_inf_nan=False), Written("TIME")]
