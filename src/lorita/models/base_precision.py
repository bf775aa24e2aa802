"""Which bases can be held in memory as quantised blocks (``quantise.py`` makes such blocks)."""

from __future__ import annotations

from dataclasses import replace

from lorita.errors import ModelError
from lorita.models.base import NATIVE, Base, Precision, load_config
from lorita.models.gguf_files import float_type
from lorita.models.gguf_layout import READ

IN_MEMORY = {"q8": (8, "Q8_0"), "q4": (3, "Q4_1")}
"""The number in ggml of the format into which weights are quantised, and its name."""
PRECISIONS: tuple[Precision, ...] = ("native", "q8", "q4")


def can_stay_quantised(base: Base) -> bool:
    """Whether this is a quantised GGUF file whose blocks can be used as they are."""
    if base.gguf_path is None or float_type(base.gguf_path) is not None:
        return False
    return load_config(base).model_type in READ


def with_recorded_precision(base: Base, recorded: str | None) -> Base:
    """The base in the form in which an adapter was trained on it; as it is if it cannot be so.

    Another base may be named than the one of the training, in files of another kind.
    """
    try:
        return with_precision(base, recorded)
    except ModelError:
        return base


def with_precision(base: Base, asked: str | None) -> Base:
    """The base, to be held in memory as ``native``, ``q8`` or ``q4`` says; others change nothing.

    ``ModelError`` where its files do not allow that.
    """
    if asked == NATIVE and base.gguf_path is None:
        raise ModelError(
            f"{base.name}: --base-precision native is for GGUF files",
            hint="--base-precision q8 or q4 quantises the weights of any model when it is loaded.",
        )
    if asked == NATIVE and (kind := load_config(base).model_type) not in READ:
        raise ModelError(
            f"{base.name}: the weights of a GGUF file of {kind} cannot stay quantised",
            hint=f"They can for {', '.join(READ)}. Leave --base-precision out.",
        )
    if asked in IN_MEMORY and base.gguf_path is not None:
        raise ModelError(
            f"{base.name}: --base-precision {asked} is for models in Hugging Face format",
            hint="--base-precision native keeps the blocks of a GGUF file as they are.",
        )
    precision = next((known for known in PRECISIONS if known == asked), None)
    return base if precision is None else replace(base, precision=precision)
