"""Where attention heads are in a projection's output, and the angles that rotate them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
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


def flat_heads(x_TN: Tensor, part: Part, turn: Rotation | None = None) -> Tensor:
    """A part of ``x_TN`` as [T, heads, d], for variable-length attention, in plain torch."""
    rows_TKGd = x_TN.as_strided(
        (len(x_TN), part.heads // part.group, part.group, part.d),
        (x_TN.stride(0), part.stride, part.d, 1),
        x_TN.storage_offset() + part.offset,
    )
    return turned(rows_TKGd, turn if part.rotate else None, backwards=False).flatten(1, 2)


def turned(x_TKGd: Tensor, turn: Rotation | None, *, backwards: bool) -> Tensor:
    """Heads with their rotary positions applied, or taken back, in plain torch."""
    if turn is None:
        return x_TKGd
    f = turn.cos_Tf.shape[-1]
    a, b, rest = x_TKGd[..., :f].float(), x_TKGd[..., f : 2 * f].float(), x_TKGd[..., 2 * f :]
    cos, sin = turn.cos_Tf[:, None, None], turn.sin_Tf[:, None, None]
    sin = -sin if backwards else sin
    return torch.cat([(a * cos - b * sin).to(x_TKGd), (b * cos + a * sin).to(x_TKGd), rest], -1)
