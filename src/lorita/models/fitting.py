"""In which form a base's weights fit in memory, decided before anything of it is loaded.

What was asked for is taken where it fits. Else numbers become narrower, and the weights of a
quantised GGUF file stay the blocks that they are: smallest of all, and a little slower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from lorita.models.base import NATIVE, Base
from lorita.models.base_precision import can_stay_quantised
from lorita.models.memory_needs import (
    MORE,
    Needs,
    answering_needs,
    both_sizes,
    sizes_and_room,
)
from lorita.system.memory import Room


class Fit(NamedTuple):
    """A base, perhaps with another ``precision``, the bytes of a number, and why it is not as
    asked."""

    base: Base
    itemsize: int
    why: str | None = None


def fitting_form(
    base: Base, itemsize: int, *, may_change: bool, beside: int = 0, fast: bool = False
) -> Fit:
    """In which form the base fits in memory to answer with it.

    ``beside`` and ``fast`` as in ``answering_needs``; ``may_change``: bfloat16 is taken where
    float32 does not fit. Raises ``ModelError`` where nothing fits.
    """
    if (found := sizes_and_room(base)) is None:
        return Fit(base, itemsize)
    sizes, here = found

    def needs(form: Base, size: int) -> Needs:
        return answering_needs(form, sizes, size, beside=beside, fast=fast)

    return choose_form(
        base.name, base, itemsize, needs, here, may_change=may_change, may_page=True, hint=MORE
    )


def choose_form(
    what: str,
    base: Base,
    itemsize: int,
    needs: Callable[[Base, int], Needs],
    here: Room,
    *,
    may_change: bool,
    may_page: bool,
    hint: str,
    may_quantise: bool = True,
) -> Fit:
    """The first of the forms that fits.

    ``needs`` are those of a form; ``what`` is what needs them. ``may_page``: where nothing else
    fits, pages of the weights may be read again and again; ``may_quantise``: the blocks of a GGUF
    file may stay as they are. ``ModelError`` where nothing fits.
    """
    forms = list(_forms(base, itemsize, may_change=may_change, may_quantise=may_quantise))
    asked = needs(base, itemsize)
    for form, size in forms:
        if needs(form, size).fit(here, paged=False):
            why = None if (form, size) == (base, itemsize) else _said(form, itemsize, asked, here)
            return Fit(form, size, why)
    form, size = forms[-1]
    least = needs(form, size)
    least.require(what, hint=hint, here=here, paged=may_page)
    needed, allowed = both_sizes(least.total(here), here.allowed)
    return Fit(
        form,
        size,
        f"Memory is short: about {needed} are needed and {here.limit} {allowed}. Parts of the "
        "weights are read from the disk again and again, which is slow",
    )


def _forms(
    base: Base, itemsize: int, *, may_change: bool, may_quantise: bool
) -> Iterator[tuple[Base, int]]:
    """What was asked for, then what takes less."""
    yield base, itemsize
    narrower = 2 if may_change else itemsize
    if narrower != itemsize:
        yield base, narrower
    if may_quantise and base.precision is None and can_stay_quantised(base):
        yield replace(base, precision=NATIVE), narrower


def _said(form: Base, itemsize: int, asked: Needs, here: Room) -> str:
    needed, allowed = both_sizes(asked.total(here), here.allowed)
    wide = "float32" if itemsize == 4 else "16-bit numbers"
    if form.precision == NATIVE:
        taken = "Weights: they stay quantised, as with --base-precision native"
    else:
        taken = "Number format: bfloat16"
    return f"{taken}, because {wide} would need about {needed} of memory and {here.limit} {allowed}"
