"""In which form the base of a run is loaded: number format and, if need be, quantised weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lorita.models.fitting import Fit, choose_form
from lorita.runs.memory_plan import least_needs
from lorita.system.memory import Room, room

if TYPE_CHECKING:
    from lorita.models.base import Base
    from lorita.models.memory_needs import Needs, Sizes
    from lorita.runs.prepare import Prepared
    from lorita.settings.schema import RunSettings

HINT = (
    "Ways to need less: a smaller model, --dtype bfloat16, or a smaller --max-length or --r; or "
    "allow more memory."
)


def fitting_form(
    settings: RunSettings, prepared: Prepared, sizes: Sizes | None, itemsize: int
) -> Fit:
    """The form of the base in which the run fits, and why it is not the one that was chosen.

    Raises ``ModelError`` if the run fits in none that the settings allow.
    """
    here: Room | None = room()
    if sizes is None or here is None:
        return Fit(prepared.base, itemsize)

    def needs(form: Base, size: int) -> Needs:
        return least_needs(settings, replace(prepared, base=form), sizes, size)

    return choose_form(
        f"{prepared.base.name}: training",
        prepared.base,
        itemsize,
        needs,
        here,
        may_change=settings.dtype == "auto",
        may_page=False,  # every step reads all weights
        may_quantise=not (
            settings.modules_to_save or settings.add_tokens or settings.add_special_tokens
        ),
        hint=HINT,
    )
