"""What is added to attention scores: masks, windows, ALiBi and their like."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Scores:
    """How scores are made of products: scaled, capped, biased by distance, windowed."""

    scale: float
    window: int | None = None
    softcap: float | None = None
    alibi_slopes: Tensor | None = None
    """[H] float32, in the order of the query heads."""
