"""What a process keeps between steps: the C allocator's memory, but only a few compiled products.

A step makes and drops the same large temporaries again and again. By default glibc maps each anew
and the kernel fills it with zeros; keeping them saves up to a quarter of a step.

oneDNN compiles code for every shape of a product and keeps the last 1,024, about 0.6 MB each. Rows
of all lengths make new shapes in every step, so that a run would grow by a gigabyte.
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST = 32 * 2**20
"""glibc takes no larger threshold; tensors beyond it are mapped and unmapped as before."""

_SMALLEST_MAPPED = 2**20
"""Left to itself glibc raises this to the largest piece that it ever took back."""
_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""oneDNN's own, and that of ideep, which stands between it and torch."""
_SHAPES = 64
"""More than one micro-batch has; its layers use the same ones."""


def keep_few_products() -> None:
    """Limit oneDNN's caches, unless the user did. Before its first product, or without effect."""
    for name in _CACHES:
        os.environ.setdefault(name, str(_SHAPES))


def keep_memory() -> bool:
    """Set glibc's thresholds for this process. False where there is no glibc, or where memory that
    is free must go back: under a limit on the address space (``ulimit -v``) what is kept counts."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    if _has_limited_addresses():
        mallopt(_MMAP_THRESHOLD, _SMALLEST_MAPPED)
        return False
    return bool(
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        and mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        and mallopt(_TOP_PAD, 64 * 2**20)
    )


def _has_limited_addresses() -> bool:
    import resource

    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
