"""How an option is defined: beside type, default and limits, the facts that other parts go by.

A fact is stated where the option is defined, never in a list of names elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import Field
from pydantic.fields import FieldInfo

from lorita.settings.types import Written, how_written

SWEPT_GROUPS = ("LoRA", "Training")
ROW_GROUPS = ("Base model", "Data")


@dataclass(frozen=True)
class OptionFacts:
    """What other parts of lorita need to know about one option.

    - ``group``: its heading in the help and in ``run.yaml``.
    - ``identity``: changes the result, so a run continues only with the same value. On unless
      stated otherwise: an option that is wrongly part of the identity refuses a run that could
      continue; one that is wrongly missing continues a different run without a word.
    - ``reused``: a sweep reuses a finished run only if it has the same value. On for the same
      reason.
    - ``swept``: can differ between the runs of a sweep, which share base and rows. By default the
      options of LoRA and Training.
    - ``previewed``: decides which rows and tokens a preview shows. By default the options of base
      model and data.
    - ``on_card``: is listed in the model card. Off unless stated: cards are published.
    - ``chosen``: lorita chooses the value for the rows at hand where nobody gives one (None).
    - ``repeatable`` and ``holds_commas``: see ``Written``; they follow from the type.
    """

    group: str
    identity: bool
    reused: bool
    swept: bool
    previewed: bool
    on_card: bool
    chosen: bool
    repeatable: bool
    holds_commas: bool


def option(
    group: str,
    description: str,
    default: Any = ...,
    *,
    identity: bool = True,
    reused: bool = True,
    swept: bool | None = None,
    previewed: bool | None = None,
    on_card: bool = False,
    chosen: bool = False,
    **limits: Any,
) -> Any:
    """A field with its help text and its facts; ``OptionFacts`` explains them and their defaults.

    ``limits`` are pydantic's: ``ge``, ``gt``, ``le``, ``lt``, ``min_length``.
    """
    stated: dict[str, Any] = {
        "group": group,
        "identity": identity,
        "reused": reused,
        "swept": group in SWEPT_GROUPS if swept is None else swept,
        "previewed": group in ROW_GROUPS if previewed is None else previewed,
        "on_card": on_card,
        "chosen": chosen,
    }
    return Field(default, description=description, json_schema_extra=stated, **limits)


def facts_of(field: FieldInfo) -> OptionFacts:
    """The facts of a field that ``option`` made."""
    stated: Any = field.json_schema_extra
    written = field_written(field) or Written("")
    return OptionFacts(**stated, repeatable=written.repeatable, holds_commas=written.holds_commas)


def field_written(field: FieldInfo) -> Written | None:
    """How the field's values are written; pydantic keeps that apart from the bare type."""
    outer = next((m for m in field.metadata if isinstance(m, Written)), None)
    return outer or how_written(field.annotation)
