"""What a process keeps between steps: freed memory, but only a few compiled products.

A step allocates and frees the same large temporary tensors again and again. By default glibc maps
each anew and the kernel zeroes it; keeping the memory saves up to a quarter of a step.

oneDNN compiles code for every shape of a product and caches the last 1,024, about 0.6 MB each. Rows
of different lengths make new shapes in every step, so that a run would grow by a gigabyte.
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST = 32 * 2**20
"""The largest threshold that glibc accepts; larger tensors are mapped and unmapped as before."""
_SMALLEST_MAPPED = 2**20
"""By default glibc raises this to the size of the largest block that was ever freed."""
_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""oneDNN's own cache, and that of ideep, the layer between oneDNN and torch."""
_SHAPES = 64
"""More than a micro-batch has: all layers have the same few."""


def keep_few_products() -> None:
    """Limit oneDNN's caches, unless the user has set a limit. Call before the first product."""
    for name in _CACHES:
        os.environ.setdefault(name, str(_SHAPES))


def keep_memory() -> bool:
    """Keep freed memory in this process; returns whether it does.

    Not without glibc, and not under a limit on the address space (``ulimit -v``), because kept
    memory counts towards it.
    """
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
