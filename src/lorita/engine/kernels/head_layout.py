"""Where attention heads are in a projection's output, and the angles that rotate them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Part:
    """Where the heads of one projection are in a token's output.

    Head ``h`` of ``heads`` starts at ``offset + (h // group) · stride + (h % group) · d``.
    """

    offset: int
    heads: int
    group: int
    """Adjacent heads: the query heads that share a key/value head."""
    stride: int
    d: int
    """Numbers per head."""
    rotate: bool = False


@dataclass(frozen=True)
class Rotation:
    """Rotary angles of every token, [T, f] float32; they rotate the first ``2·f`` of d numbers."""

    cos_Tf: Tensor
    sin_Tf: Tensor
