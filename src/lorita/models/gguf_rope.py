"""Rotary positions of a GGUF file as transformers' ``rope_parameters``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorita.models.gguf_metadata import Metadata

FREQUENCIES = "rope_freqs.weight"
SHORT, LONG = "rope_factors_short.weight", "rope_factors_long.weight"
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
"""Between which waves Llama 3.1 and later stretch their positions by a part of the factor."""
CONTEXTS = (8192, *(2**n for n in range(5, 21)))
"""Contexts before stretching, of which a file has only what comes of them; the usual one first."""
BASE = 10_000.0
"""llama.cpp's base of the frequencies where the file says nothing."""


def read_rope(meta: Metadata, factors: Callable[[str], Sequence[float]]) -> dict[str, Any]:
    """The parameters; ``ModelError`` for a kind of scaling that is not known.

    ``factors`` reads a tensor of numbers by which frequencies are divided.
    """
    rope: dict[str, Any] = {
        "rope_type": "default",
        "rope_theta": float(meta.number("rope.freq_base", BASE)),
    }
    kind = meta.get("rope.scaling.type", "none")
    if FREQUENCIES in meta.tensors:
        if kind != "none":
            raise meta.error(f"rope.scaling.type is {kind!r}, and there are frequencies as well")
        return rope | _llama3(meta, rope["rope_theta"], list(factors(FREQUENCIES)))
    if SHORT in meta.tensors and LONG in meta.tensors:
        meta.must_be("rope.scaling.type", "none", "longrope")
        context = meta.number("rope.scaling.original_context_length")
        scale = meta.get("rope.scaling.attn_factor")
        return (
            rope
            | ({} if scale is None else {"attention_factor": float(scale)})
            | {
                "rope_type": "longrope",
                "short_factor": list(factors(SHORT)),
                "long_factor": list(factors(LONG)),
                "original_max_position_embeddings": context,
            }
        )
    if kind == "linear":
        return rope | {"rope_type": "linear", "factor": meta.number("rope.scaling.factor")}
    if kind == "yarn":
        return rope | _yarn(meta)
    meta.must_be("rope.scaling.type", "none")
    meta.must_be("rope.scaling.factor", 0, 1)
    return rope


def turned_part(meta: Metadata, size: int) -> float:
    """The part of a head of this size that is turned.

    What transformers makes of it is rounded down, and must be the file's number again.
    """
    turned = meta.number("rope.dimension_count", size)
    part = turned / size
    return float(part if int(part * size) == turned else (turned + 0.5) / size)


def _yarn(meta: Metadata) -> dict[str, Any]:
    names = {"factor": "factor", "original_max_position_embeddings": "original_context_length"}
    yarn = {name: meta.number(f"rope.scaling.{key}") for name, key in names.items()}
    for name, key in (
        ("beta_fast", "yarn_beta_fast"),
        ("beta_slow", "yarn_beta_slow"),
        ("attention_factor", "yarn_attn_factor"),
        ("attention_factor", "attn_factor"),
    ):
        if meta.get(f"rope.scaling.{key}") is not None:
            yarn[name] = float(meta.number(f"rope.scaling.{key}"))
    meta.must_be("rope.scaling.yarn_ext_factor", 1)
    if log_mul := float(meta.number("rope.scaling.yarn_log_multiplier", 0.0)):
        yarn |= {"mscale": 1.0, "mscale_all_dim": log_mul}
    return {"rope_type": "yarn", **yarn}


def _llama3(meta: Metadata, theta: float, found: list[float]) -> dict[str, Any]:
    """Parameters that make these factors."""
    if all(factor == 1 for factor in found):
        return {}
    for context in CONTEXTS:
        rope = {
            "rope_type": "llama3",
            "rope_theta": theta,
            "factor": round(max(found), 3),
            **LLAMA3,
        }
        rope["original_max_position_embeddings"] = context
        made = llama3_factors(rope, 2 * len(found))
        if all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(made, found, strict=True)):
            return rope
    raise meta.error(f"rotary frequencies that are not stretched as in Llama 3 ({FREQUENCIES})")


def llama3_factors(rope: dict[str, Any], size: int) -> list[float]:
    """What Llama 3.1 divides each frequency by: 1 for short waves, ``factor`` for long ones.

    ``size`` is the dimension of a head.
    """
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    context = rope["original_max_position_embeddings"]
    factors = []
    for i in range(0, size, 2):
        wave = 2 * math.pi * rope["rope_theta"] ** (i / size)
        share = (context / wave - low) / (high - low)  # 1: short wave, 0: long wave
        share = min(1.0, max(0.0, share))
        factors.append(1.0 / ((1.0 - share) / rope["factor"] + share))
    return factors
