"""Importing libraries of thousands of classes, without looking for garbage among them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[Callable[[], None]]:
    """Python looks for no unused cycles of objects in the block, or until what it gives is called.

    What a library defines is used until the end, but Python looks through all of it again and
    again while more is defined: a fifth of the time that torch, transformers and PEFT take.
    """
    was_on = gc.isenabled()
    gc.disable()

    def done() -> None:
        nonlocal was_on
        if was_on:
            gc.enable()
        was_on = False

    try:
        yield done
    finally:
        done()
