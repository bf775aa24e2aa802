"""Keys and values of tokens that are not computed again: a beginning that rows share is computed
once and given to each row, and what was kept of the tokens before a row is put in front of it.

The gradients of all rows are added up in float32, in the same order in every run.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lorita.engine.kernels.row_layout import RowLayout


def repeated(x_SGd: Tensor, rows: RowLayout) -> Tensor:
    """Slots of ``rows`` as slots of ``rows.full``, without a gradient: see ``summed``.

    As they are if no row continues another. What the slots without a token hold means nothing.
    """
    return x_SGd if not rows.continues else x_SGd.index_select(0, _slots(x_SGd, rows))


def summed(grad_SGd: Tensor, rows: RowLayout) -> Tensor:
    """The gradient of ``repeated``, from that of its result; slots without a token must be zero."""
    if not rows.continues:
        return grad_SGd
    heads = len(grad_SGd) // rows.full.num_slots
    index = rows.repeated_slots(heads).to(grad_SGd.device)
    return _added_up(grad_SGd, index, heads * rows.num_slots)


def whole_rows(x_SGd: Tensor, rows: RowLayout) -> Tensor:
    """``repeated``, for autograd."""
    return _Repeated.apply(x_SGd, _slots(x_SGd, rows))  # type: ignore[no-any-return]


def whole_rows_of_tokens(x_TKd: Tensor, rows: RowLayout) -> Tensor:
    """Tokens of ``rows`` as tokens of ``rows.full``, for autograd."""
    if not rows.continues:
        return x_TKd
    return _Repeated.apply(x_TKd, rows.sources.to(x_TKd.device))  # type: ignore[no-any-return]


def own_part(x_SGd: Tensor, rows: RowLayout) -> Tensor:
    """Slots of ``rows.full`` as slots of ``rows``: of each row what is its own."""
    heads = len(x_SGd) // rows.full.num_slots
    return x_SGd.index_select(0, rows.own_slots(heads).to(x_SGd.device))


def after_kept(x_SGd: Tensor, kept_PKd: Tensor | None, rows: RowLayout) -> Tensor:
    """Slots of ``rows`` as slots of ``rows.full``, for autograd.

    ``kept_PKd`` are the tokens of ``rows.before``, which get no gradient; None: zeros.
    """
    heads, (_, group, d) = len(x_SGd) // rows.num_slots, x_SGd.shape
    if kept_PKd is None:
        kept_PKd = x_SGd.new_zeros((sum(rows.before), heads * group, d))
    index = rows.slots_after_kept(heads).to(x_SGd.device)
    return _AfterKept.apply(x_SGd, kept_PKd.reshape(-1, group, d), index, rows)  # type: ignore[no-any-return]


class _AfterKept(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor, index: Tensor, rows: RowLayout) -> Tensor:
        ctx.rows = rows
        return torch.cat([x, kept.to(x.dtype)]).index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        return own_part(grad, ctx.rows), None, None, None


class _Repeated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.length = len(x)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (index,) = ctx.saved_tensors
        return _added_up(grad, index, ctx.length), None


def _slots(x_SGd: Tensor, rows: RowLayout) -> Tensor:
    return rows.repeated_slots(len(x_SGd) // rows.num_slots).to(x_SGd.device)


def _added_up(grad: Tensor, index: Tensor, length: int) -> Tensor:
    """``grad[i]`` added to item ``index[i]`` of ``length``, in a fixed order."""
    total = grad.new_zeros((length, *grad.shape[1:]), dtype=torch.float32)
    if grad.is_cuda:  # where index_add_ adds in any order
        total.index_put_((index,), grad.float(), accumulate=True)
    else:
        total.index_add_(0, index, grad.float())
    return total.to(grad.dtype)
