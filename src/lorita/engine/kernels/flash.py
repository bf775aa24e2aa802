"""Attention as one compiled kernel, ``attention.cpp``, forward and backward.

Blocks of scores are computed, used and discarded; only the output and one number per query are kept
for the backward pass (FlashAttention-2: Dao, 2023). Available where the processor has the
instructions that the kernel is written for; ``attention.py`` computes the same elsewhere.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lorita.engine.kernels.native import kernel
from lorita.engine.kernels.products import widened
from lorita.engine.kernels.row_layout import RowLayout
from lorita.engine.kernels.score_rule import Scores
from lorita.engine.kernels.shared_rows import repeated, summed

LANES = 16
"""The head size must be a multiple of this."""


def flash_kernels(like: Tensor, d: int) -> tuple[Any, Any] | None:
    """The forward and backward kernels for this dtype and heads of size ``d``; None if unavailable.

    They read only the slots that hold a token. Where products of 16 bits are computed in
    float32 (``products.widened``), the kernels are those of float32, and take numbers of that type.
    """
    like = _as_computed(like)
    forward, backward = kernel("attention", like), kernel("attention_back", like)
    return (forward, backward) if forward and backward and d % LANES == 0 else None


def _as_computed(like: Tensor) -> Tensor:
    return torch.empty(0) if widened(like) else like


class FlashAttention(torch.autograd.Function):
    """``attention.attention`` by ``flash_kernels``; fails where they are unavailable."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: RowLayout, how: Scores) -> Tensor:
        """Attention's output in the shape of ``q``; keeps it and the log-sum-exp of the scores."""
        run, ctx.run_back = flash_kernels(q, q.shape[2]) or (None, None)
        assert run is not None
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        ctx.rows, ctx.how = rows, how
        lse = torch.empty(q.shape[:2], dtype=torch.float32)
        where = _where(q, k, rows, how)
        keys, values = repeated(k, rows), repeated(v, rows)
        wide = [t.to(_as_computed(t).dtype) for t in (q, keys, values)]
        out = torch.empty_like(wide[0])
        run(*(t.data_ptr() for t in (*wide, out, lse)), *where)
        out = out.to(q.dtype)
        ctx.save_for_backward(q, k, v, out, lse)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # type: ignore[override]
        """The gradients of ``q``, ``k`` and ``v``; scores are computed again, not kept."""
        q, k, v, out, lse = ctx.saved_tensors
        grad, rows = grad.contiguous(), ctx.rows
        keys, values = repeated(k, rows), repeated(v, rows)
        wide = [t.to(_as_computed(t).dtype) for t in (q, keys, values, out, grad)]
        # Of repeated keys the slots without a token are added up, too.
        empty = torch.zeros_like if rows.continues else torch.empty_like
        grads = torch.empty_like(wide[0]), empty(wide[1]), empty(wide[2])
        ctx.run_back(*(t.data_ptr() for t in (*wide, *grads, lse)), *_where(q, k, rows, ctx.how))
        d_q, d_k, d_v = (t.to(grad.dtype) for t in grads)
        return d_q, summed(d_k, rows), summed(d_v, rows), None, None


def _where(q: Tensor, k: Tensor, rows: RowLayout, how: Scores) -> tuple[Any, ...]:
    """The rows and the score rule as arguments of the kernel."""
    kv = len(k) // rows.num_key_slots
    places = rows.row_slots(kv)
    slopes = how.alibi_slopes
    return (
        *(t.data_ptr() for t in places), len(rows.lengths), kv, q.shape[1], q.shape[2],
        how.window or 0, None if slopes is None else slopes.data_ptr(),
        how.scale, how.softcap or 0.0,
    )  # fmt: skip
