"""The types of options, and how a value typed in YAML or on the command line becomes one.

Types that Python's own do not describe carry a ``Written``: how people write such a value.
"""

from __future__ import annotations

import re
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field


@dataclass(frozen=True)
class Written:
    """How a value is written on the command line: ``INT,...``.

    ``holds_commas``: commas separate the parts of one value. ``repeatable``: a value is one part;
    the flag is given once for each.
    """

    form: str
    holds_commas: bool = False
    repeatable: bool = False


INIT_NAMES = (
    "gaussian", "orthogonal", "pissa", "olora", "loftq", "eva", "lora_ga", "corda", "mica",
)  # fmt: skip
"""PEFT's names of initialisations, beside true, false and pissa_niter_N."""


def _split_commas(value: Any) -> Any:
    """``a,b`` means ``["a", "b"]``, as on the command line of other tools."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _tracker_names(value: Any) -> Any:
    """``none`` is no tracker, as in transformers."""
    names = _split_commas(value)
    return [] if names in (None, ["none"]) else names


def _one_or_many(value: Any) -> Any:
    """A single text becomes a list of one; its commas are part of it."""
    return [value] if isinstance(value, (str, Path)) else value


def _names_or_pattern(value: Any) -> Any:
    """``q_proj,v_proj`` is a list, one bare name a list of one, anything else a regex for PEFT."""
    if not isinstance(value, str) or value == "all-linear":
        return value
    if "," in value and not set(value) & set("(|["):
        return _split_commas(value)
    return [value] if value.replace("_", "").replace(".", "").isalnum() else value


def _mapping_from_pairs(value: Any) -> Any:
    """``q_proj=8,v_proj=16`` is a mapping."""
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        return {name.strip(): number.strip() for name, _, number in pairs}
    return value


def _init_word(value: Any) -> Any:
    """YAML and the command line spell true and false in several ways."""
    words = {"true": True, "default": True, "false": False, "lora-ga": "lora_ga"}
    word = words.get(value.lower(), value.lower()) if isinstance(value, str) else value
    if word in (True, False) or re.fullmatch(r"pissa_niter_\d{1,3}", str(word)):
        return word
    if word not in INIT_NAMES:
        raise ValueError(f"should be true, false, pissa_niter_N, {', '.join(INIT_NAMES)}")
    return word


def _invocation(value: Any) -> Any:
    """A text, or the numbers of tokens; never nothing."""
    if isinstance(value, (str, list, tuple)) and not value:
        raise ValueError("should be a text, or auto")
    return value


def _format_word(value: Any) -> Any:
    """Other tools' names for the formats."""
    words = {
        "prompt_completion": "prompt-completion",
        "completion": "prompt-completion",
        "openai": "messages",
        "chat": "messages",
        "conversations": "sharegpt",
        "instruction": "alpaca",
    }
    return words.get(value.lower(), value.lower()) if isinstance(value, str) else value


Names = Annotated[list[str], BeforeValidator(_split_commas), Written("NAME,...", holds_commas=True)]
Texts = Annotated[list[str], BeforeValidator(_one_or_many), Written("STR", repeatable=True)]
Layers = Annotated[
    list[Annotated[int, Field(ge=0)]],
    BeforeValidator(_split_commas),
    Written("INT,...", holds_commas=True),
]
Targets = Annotated[
    list[str] | str,
    BeforeValidator(_names_or_pattern),
    Written("NAME,...|REGEX", holds_commas=True),
]
Ranks = Annotated[
    dict[str, Annotated[int, Field(ge=1)]],
    BeforeValidator(_mapping_from_pairs),
    Written("NAME=INT,...", holds_commas=True),
]
Alphas = Annotated[
    dict[str, Annotated[float, Field(gt=0)]],
    BeforeValidator(_mapping_from_pairs),
    Written("NAME=FLOAT,...", holds_commas=True),
]
Format = Annotated[
    Literal["text", "prompt-completion", "messages", "sharegpt", "alpaca"],
    BeforeValidator(_format_word),
]
Trackers = Annotated[
    list[Literal["tensorboard", "wandb", "mlflow", "trackio"]],
    BeforeValidator(_tracker_names),
    Written("NAME,...", holds_commas=True),
]
Invocation = Annotated[
    list[Annotated[int, Field(ge=0)]] | str, BeforeValidator(_invocation), Written("TEXT|auto")
]
InitWeights = Annotated[bool | str, BeforeValidator(_init_word), Written("NAME")]


def how_written(annotation: Any) -> Written | None:
    """What a type says about the writing of its values; None if Python's type says it all."""
    if typing.get_origin(annotation) is Annotated:
        return next((m for m in annotation.__metadata__ if isinstance(m, Written)), None)
    found = map(how_written, typing.get_args(annotation)) if is_union(annotation) else ()
    return next((written for written in found if written is not None), None)


def choices_of(annotation: Any) -> tuple[str, ...]:
    """The words that a type accepts, in order; none where it accepts more, or is a switch."""
    if typing.get_origin(annotation) is Annotated:
        return choices_of(annotation.__origin__)
    if typing.get_origin(annotation) is Literal:
        return tuple(map(str, typing.get_args(annotation)))
    if not is_union(annotation):
        return ()
    members = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
    if is_switch(annotation):
        return ()
    words = [("true", "false") if kind is bool else choices_of(kind) for kind in members]
    return tuple(word for some in words for word in some) if all(words) else ()


def is_switch(annotation: Any) -> bool:
    """Whether an option of this type is on or off; None stands for a default chosen later."""
    kinds = typing.get_args(annotation) if is_union(annotation) else (annotation,)
    return {kind for kind in kinds if kind is not type(None)} == {bool}


def is_union(annotation: Any) -> bool:
    """Whether a type is ``A | B`` or ``Optional[A]``."""
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)
