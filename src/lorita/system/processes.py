"""Several processes on one job (``accelerate launch``, ``torchrun``): who writes and who speaks."""

from __future__ import annotations

import os


def is_lead() -> bool:
    """Whether this process writes the files and talks to people; always, where there is but one."""
    return int(os.environ.get("RANK", "0")) == 0
