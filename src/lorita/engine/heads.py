"""From the rows of a projection to heads and back, rotary positions applied on the way.

Attention wants each head's tokens together, projections give each token's heads together. One pass
turns one into the other; the backward pass turns back, rotation included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorita.engine.native import kernel


@dataclass(frozen=True)
class Part:
    """Where the heads of one projection lie in a token's numbers.

    Head ``h`` of ``heads`` begins at ``offset + (h // group) · stride + (h % group) · d``.
    """

    offset: int
    heads: int
    group: int
    stride: int
    d: int
    rotate: bool = False


def split_heads(
    x_TN: Tensor, parts: tuple[Part, ...], cos_Tf: Tensor | None, sin_Tf: Tensor | None
) -> tuple[Tensor, ...]:
    """Each part of ``x_TN`` as [heads/group, T, group, d].

    ``cos_Tf`` and ``sin_Tf`` (float32) turn the first ``2·f`` numbers of the heads to rotate.
    """
    return _SplitHeads.apply(x_TN, parts, cos_Tf, sin_Tf)  # type: ignore[no-any-return]


class _SplitHeads(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, parts: tuple[Part, ...], cos: Tensor | None, sin: Tensor | None
    ) -> tuple[Tensor, ...]:
        x = x.contiguous()
        ctx.parts, ctx.cos, ctx.sin, ctx.shape = parts, cos, sin, x.shape
        outs = []
        for part in parts:
            out = x.new_empty(part.heads // part.group, len(x), part.group, part.d)
            _move(x, out, part, cos, sin, inverse=False)
            outs.append(out)
        return tuple(outs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        out = grads[0].new_empty(ctx.shape)
        for part, grad in zip(ctx.parts, grads, strict=True):
            _move(out, grad.contiguous(), part, ctx.cos, ctx.sin, inverse=True)
        return out, None, None, None


def join_heads(x_KTGd: Tensor) -> Tensor:
    """[K, T, G, d] as rows [T, K·G·d]."""
    return _JoinHeads.apply(x_KTGd)  # type: ignore[no-any-return]


class _JoinHeads(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        kv, tokens, group, d = x.shape
        ctx.part = Part(0, kv * group, group, group * d, d)
        out = x.new_empty(tokens, kv * group * d)
        _move(out, x.contiguous(), ctx.part, None, None, inverse=True)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        part: Part = ctx.part
        grad = grad.contiguous()
        out = grad.new_empty(part.heads // part.group, len(grad), part.group, part.d)
        _move(grad, out, part, None, None, inverse=False)
        return out


def _move(
    rows: Tensor,
    heads: Tensor,
    part: Part,
    cos: Tensor | None,
    sin: Tensor | None,
    *,
    inverse: bool,
) -> None:
    """rows → heads, or with ``inverse`` heads → rows, turning back what was turned."""
    turn = part.rotate and cos is not None and sin is not None
    run = kernel("heads", rows)
    if run is not None:
        run(
            rows.data_ptr() + part.offset * rows.itemsize, heads.data_ptr(),
            cos.data_ptr() if turn and cos is not None else None,
            sin.data_ptr() if turn and sin is not None else None,
            len(rows), part.heads, part.group, part.d,
            cos.shape[-1] if turn and cos is not None else 0,
            rows.shape[-1], part.stride, inverse,
        )  # fmt: skip
        return
    place = rows.as_strided(
        (part.heads // part.group, len(rows), part.group, part.d),
        (part.stride, rows.shape[-1], part.d, 1),
        rows.storage_offset() + part.offset,
    )
    source, target = (heads, place) if inverse else (place, heads)
    if not turn or cos is None or sin is None:
        target.copy_(source)
        return
    f = cos.shape[-1]
    x, y = source[..., :f].float(), source[..., f : 2 * f].float()
    c, s = cos[:, None], -sin[:, None] if inverse else sin[:, None]
    target[..., 2 * f :] = source[..., 2 * f :]
    target[..., :f] = x * c - y * s
    target[..., f : 2 * f] = y * c + x * s
