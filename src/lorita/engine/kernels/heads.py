"""From a projection's output to heads and back, with rotary positions applied on the way.

Attention needs each head's tokens together; projections return each token's heads together. One
pass converts one layout to the other and rotates; the backward pass undoes both.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lorita.engine.kernels.flash import flash_kernels
from lorita.engine.kernels.head_layout import Part, Rotation, turned
from lorita.engine.kernels.native import kernel
from lorita.engine.kernels.row_layout import RowLayout


def split_heads(
    x_TN: Tensor, parts: tuple[Part, ...], rows: RowLayout, turn: Rotation | None = None
) -> tuple[Tensor, ...]:
    """Each part of ``x_TN`` as slots [S, group, d].

    S is the number of slots (``RowLayout.num_slots``) times the part's groups.
    """
    return _SplitHeads.apply(x_TN, parts, rows, turn)  # type: ignore[no-any-return]


class _SplitHeads(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, parts: tuple[Part, ...], rows: RowLayout, turn: Rotation | None
    ) -> tuple[Tensor, ...]:
        x = x.contiguous()
        ctx.parts, ctx.rows, ctx.turn, ctx.shape = parts, rows, turn, x.shape
        outs = []
        for part in parts:
            out = _empty_slots(x, part, rows)
            _move(x, out, part, rows, turn, inverse=False)
            outs.append(out)
        return tuple(outs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        out = grads[0].new_empty(ctx.shape)
        for part, grad in zip(ctx.parts, grads, strict=True):
            _move(out, grad.contiguous(), part, ctx.rows, ctx.turn, inverse=True)
        return out, None, None, None


def join_heads(x_SGd: Tensor, rows: RowLayout) -> Tensor:
    """Slots [S, G, d] as rows [T, K·G·d]."""
    return _JoinHeads.apply(x_SGd, rows)  # type: ignore[no-any-return]


class _JoinHeads(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: RowLayout) -> Tensor:
        _, group, d = x.shape
        kv = len(x) // rows.num_slots
        ctx.part, ctx.rows = Part(0, kv * group, group, group * d, d), rows
        out = x.new_empty(rows.num_tokens, kv * group * d)
        _move(out, x.contiguous(), ctx.part, rows, None, inverse=True)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        grad = grad.contiguous()
        out = _empty_slots(grad, ctx.part, ctx.rows)
        _move(grad, out, ctx.part, ctx.rows, None, inverse=False)
        return out, None


def _empty_slots(like: Tensor, part: Part, rows: RowLayout) -> Tensor:
    shape = (part.heads // part.group * rows.num_slots, part.group, part.d)
    # Products over whole buckets read the slots without a token, too: zeros leave every sum as is.
    gaps_are_read = rows.num_slots > rows.num_tokens and not flash_kernels(like, part.d)
    return like.new_zeros(shape) if gaps_are_read else like.new_empty(shape)


def _move(
    x: Tensor,
    slots: Tensor,
    part: Part,
    rows: RowLayout,
    turn: Rotation | None,
    *,
    inverse: bool,
) -> None:
    """Copy rows to slots and rotate, or with ``inverse`` slots to rows and rotate back."""
    turn = turn if part.rotate else None
    first, step = rows.slots(part.heads // part.group)
    run = kernel("heads", x)
    if run is None:
        _eager_move(x, slots, part, (first, step), turn, inverse=inverse)
        return
    run(
        x.data_ptr() + part.offset * x.itemsize, slots.data_ptr(),
        turn.cos_Tf.data_ptr() if turn else None, turn.sin_Tf.data_ptr() if turn else None,
        first.data_ptr(), step.data_ptr(), len(x), part.heads, part.group, part.d,
        turn.cos_Tf.shape[-1] if turn else 0, x.shape[-1], part.stride, inverse,
    )  # fmt: skip


def _eager_move(
    x: Tensor,
    slots: Tensor,
    part: Part,
    places: tuple[Tensor, Tensor],
    turn: Rotation | None,
    *,
    inverse: bool,
) -> None:
    kv = part.heads // part.group
    first, step = (t.to(x.device) for t in places)
    place_TK = first[:, None] + step[:, None] * torch.arange(kv, device=x.device)
    rows = x.as_strided(
        (len(x), kv, part.group, part.d),
        (x.shape[-1], part.stride, part.d, 1),
        x.storage_offset() + part.offset,
    )
    if inverse:
        rows.copy_(turned(slots[place_TK], turn, backwards=True))
    else:
        slots[place_TK] = turned(rows, turn, backwards=False)
