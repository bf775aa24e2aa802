"""A process that only needs tokenizers starts transformers without torch, which takes seconds.

transformers offers tokenizers and configurations to people who have no torch at all; this gives the
same to a command that loads no model. Once started so, transformers stays so: it is for processes
that end with their command, never for a program that uses lorita as a library.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_planned: dict[str, Any] = {}


def plan_without_torch() -> None:
    """From now on ``start_without_torch`` may do what it says: this process is one command."""
    _planned["wanted"] = True


def start_without_torch() -> None:
    """Import transformers without torch, if that was planned and neither is imported yet."""
    if not _planned.pop("wanted", False) or {"torch", "transformers"} & sys.modules.keys():
        return
    advice = os.environ.get("TRANSFORMERS_NO_ADVISORY_WARNINGS")
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"  # it would say that there is no torch
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        from transformers.utils import is_torch_available

        is_torch_available()  # it remembers the answer
    finally:
        del sys.modules["torch"]
        if advice is None:
            del os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"]
