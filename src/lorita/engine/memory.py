"""Keep the C allocator from giving memory back between steps.

A step makes and drops the same large temporaries again and again. By default glibc maps each anew
and the kernel fills it with zeros; keeping them saves up to a quarter of a step.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST = 32 * 2**20
"""glibc takes no larger threshold; tensors beyond it are mapped and unmapped as before."""


def keep_memory() -> bool:
    """Set glibc's thresholds for this process. False where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        and mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        and mallopt(_TOP_PAD, 64 * 2**20)
    )
