"""The types of options, and how what is typed in YAML or on the command line becomes one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field


def _split_commas(value: Any) -> Any:
    """``a,b`` means ``["a", "b"]``, as on the command line of other tools."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _one_or_many(value: Any) -> Any:
    """A single text stands for a list of one; its commas are part of it."""
    return [value] if isinstance(value, (str, Path)) else value


def _names_or_pattern(value: Any) -> Any:
    """``q_proj,v_proj`` is a list, one bare word a list of one, anything else a regex for PEFT."""
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
    """YAML and the command line say true and false in several ways."""
    words = {"true": True, "default": True, "false": False}
    word = words.get(value.lower(), value.lower()) if isinstance(value, str) else value
    if word not in (True, False, "gaussian", "orthogonal"):
        raise ValueError("should be true, false, gaussian or orthogonal")
    return word


def _format_word(value: Any) -> Any:
    """Other tools' words for the formats."""
    words = {
        "prompt_completion": "prompt-completion",
        "completion": "prompt-completion",
        "openai": "messages",
        "chat": "messages",
        "conversations": "sharegpt",
        "instruction": "alpaca",
    }
    return words.get(value.lower(), value.lower()) if isinstance(value, str) else value


Names = Annotated[list[str], BeforeValidator(_split_commas)]
Texts = Annotated[list[str], BeforeValidator(_one_or_many)]
Layers = Annotated[list[Annotated[int, Field(ge=0)]], BeforeValidator(_split_commas)]
Targets = Annotated[list[str] | str, BeforeValidator(_names_or_pattern)]
Ranks = Annotated[dict[str, Annotated[int, Field(ge=1)]], BeforeValidator(_mapping_from_pairs)]
Alphas = Annotated[dict[str, Annotated[float, Field(gt=0)]], BeforeValidator(_mapping_from_pairs)]
Format = Annotated[
    Literal["text", "prompt-completion", "messages", "sharegpt", "alpaca"],
    BeforeValidator(_format_word),
]
InitWeights = Annotated[bool | Literal["gaussian", "orthogonal"], BeforeValidator(_init_word)]
