"""Several processes on one job (``accelerate launch``, ``torchrun``): which one reports."""

from __future__ import annotations

import os


def is_lead() -> bool:
    """Whether this process writes files and prints; always true if it is the only one."""
    return int(os.environ.get("RANK", "0")) == 0
