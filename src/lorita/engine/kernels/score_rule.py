"""How attention scores are computed from the products of queries and keys."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Scores:
    """Scores are scaled, soft-capped, biased by distance and limited to a window, in this order."""

    scale: float
    window: int | None = None
    """Positions that a query attends to, itself included; None for all before it."""
    softcap: float | None = None
    """Scores become ``softcap · tanh(score / softcap)``."""
    alibi_slopes: Tensor | None = None
    """[H] float32, in the order of the query heads."""
