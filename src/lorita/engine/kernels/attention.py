"""Attention within packed rows: no token attends to another row's.

Where the processor has AVX2, one compiled kernel does it all (``flash.py``). Elsewhere it is
two matrix products with a softmax between them. Short rows of similar length are computed together:
each product is batched over rows and key/value heads, the softmax applies the mask, and the
probabilities are kept for the backward pass. Long rows are computed one at a time, in blocks of
queries, and their probabilities are recomputed. The G query heads of a key/value head are adjacent
in a slot, so that a row is one matrix per key/value head without copies (``row_layout.py`` says
which slots).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorita.engine.autocast import own_formats
from lorita.engine.kernels.flash import FlashAttention, flash_kernels
from lorita.engine.kernels.native import kernel
from lorita.engine.kernels.row_layout import ONE_BLOCK, Bucket, RowLayout
from lorita.engine.kernels.score_rule import Scores
from lorita.engine.kernels.shared_rows import after_kept, own_part, whole_rows

BLOCK = 256
"""Queries per block of a long row. Keys after the block are skipped, which saves nearly half of the
scores."""


def attention(q_SGd: Tensor, k_S1d: Tensor, v_S1d: Tensor, rows: RowLayout, how: Scores) -> Tensor:
    """Causal attention within each row, from slots to slots; see ``reference.attention``.

    A row that continues another attends to that one's tokens, too. With ``rows.before``, keys and
    values are those of ``rows.full``.

    S is the number of slots times the number of key/value heads, G the number of query heads per
    key/value head, d the head size. ``heads.split_heads`` makes all three tensors.
    """
    if flash_kernels(q_SGd, q_SGd.shape[2]):
        return FlashAttention.apply(q_SGd, k_S1d, v_S1d, rows, how)  # type: ignore[no-any-return]
    if rows.before:
        full_q = after_kept(q_SGd, None, rows)
        return own_part(_Attention.apply(full_q, k_S1d, v_S1d, rows.full, how), rows)
    if rows.continues:  # every row from its first token on: more work, but the same kernels
        full = (whole_rows(t, rows) for t in (q_SGd, k_S1d, v_S1d))
        return own_part(_Attention.apply(*full, rows.full, how), rows)
    return _Attention.apply(q_SGd, k_S1d, v_S1d, rows, how)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _View:
    """The tensors of one bucket as matrices, one per row and key/value head."""

    bucket: Bucket
    kv: int

    def of(self, slots: Tensor) -> Tensor:
        """This bucket of [S, G, d] as [rows·K, length, G, d], a view."""
        start, stop = self.kv * self.bucket.start, self.kv * self.bucket.stop
        return slots[start:stop].view(-1, self.bucket.length, *slots.shape[1:])

    def blocks(self, window: int | None) -> Iterator[tuple[slice, slice]]:
        """(queries, keys that they can attend to) of each block; short rows are one block."""
        length = self.bucket.length
        step = length if length <= ONE_BLOCK else BLOCK
        for start in range(0, length, step):
            stop = min(start + step, length)
            yield slice(start, stop), slice(max(0, start - window + 1) if window else 0, stop)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: RowLayout, how: Scores) -> Tensor:
        kv = len(k) // rows.num_slots
        out = torch.empty_like(q)
        kept: list[Tensor] = []
        for bucket in rows.buckets:
            view = _View(bucket, kv)
            queries, keys, values, outs = (view.of(t) for t in (q, k, v, out))
            for here, seen in view.blocks(how.window):
                scores, probs = _probabilities(queries, keys, here, seen, kv, how)
                mixed = torch.bmm(probs, values[:, seen, 0])
                outs[:, here] = mixed.view(outs[:, here].shape)
                if bucket.length <= ONE_BLOCK and any(ctx.needs_input_grad[:3]):
                    kept += [probs, scores] if how.softcap else [probs]
        ctx.save_for_backward(q, k, v, *kept)
        ctx.rows, ctx.how, ctx.kv = rows, how, kv
        return out

    @staticmethod
    @own_formats
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # type: ignore[override]
        q, k, v, *kept = ctx.saved_tensors
        saved = iter(kept)
        d_q, d_k, d_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        grad = grad.contiguous()
        for bucket in ctx.rows.buckets:
            view = _View(bucket, ctx.kv)
            tensors = tuple(view.of(t) for t in (q, k, v, grad, d_q, d_k, d_v))
            if bucket.length <= ONE_BLOCK:
                _back_short(tensors, saved, ctx.how)
            else:
                _back_long(tensors, view, ctx.how)
        return d_q, d_k, d_v, None, None


def _back_short(tensors: tuple[Tensor, ...], saved: Iterator[Tensor], how: Scores) -> None:
    q, k, v, grad, d_q, d_k, d_v = tensors
    probs = next(saved)
    scores = next(saved) if how.softcap else probs
    g = grad.flatten(1, 2)
    d_scores = torch.bmm(g, v[:, :, 0].transpose(1, 2))
    _scores_gradient(d_scores, probs, scores, how)
    d_q.copy_(torch.bmm(d_scores, k[:, :, 0]).view_as(d_q))
    d_k.copy_(torch.bmm(d_scores.transpose(1, 2), q.flatten(1, 2)).view_as(d_k))
    d_v.copy_(torch.bmm(probs.transpose(1, 2), g).view_as(d_v))


def _back_long(tensors: tuple[Tensor, ...], view: _View, how: Scores) -> None:
    """Several blocks add to the gradient of the same keys: summed in float32, rounded once."""
    q, k, v, grad, d_q, d_k, d_v = tensors
    key_sum = torch.zeros_like(k[:, :, 0], dtype=torch.float32)
    value_sum = torch.zeros_like(key_sum)
    for here, seen in view.blocks(how.window):
        scores, probs = _probabilities(q, k, here, seen, view.kv, how)
        g = grad[:, here].flatten(1, 2)
        d_scores = torch.bmm(g, v[:, seen, 0].transpose(1, 2))
        _scores_gradient(d_scores, probs, scores, how)
        d_q[:, here] = torch.bmm(d_scores, k[:, seen, 0]).view(d_q[:, here].shape)
        key_sum[:, seen] += torch.bmm(d_scores.transpose(1, 2), q[:, here].flatten(1, 2))
        value_sum[:, seen] += torch.bmm(probs.transpose(1, 2), g)
    d_k[:, :, 0] = key_sum
    d_v[:, :, 0] = value_sum


def _probabilities(
    q: Tensor, k: Tensor, here: slice, seen: slice, kv: int, how: Scores
) -> tuple[Tensor, Tensor]:
    """Raw scores and probabilities [rows·K, queries·G, keys]; the same tensor without a softcap."""
    group = q.shape[2]
    scores = torch.bmm(q[:, here].flatten(1, 2), k[:, seen, 0].transpose(1, 2))
    run = kernel("softmax", scores)
    if run is None:
        return scores, _eager_softmax(scores, group, here, seen, kv, how)
    probs = torch.empty_like(scores) if how.softcap else scores
    slopes = how.alibi_slopes
    run(
        scores.data_ptr(), probs.data_ptr(), None if slopes is None else slopes.data_ptr(),
        len(scores), kv, here.stop - here.start, group, seen.stop - seen.start,
        here.start - seen.start, how.window or 0, how.scale, how.softcap or 0.0,
    )  # fmt: skip
    return scores, probs


def _eager_softmax(
    scores: Tensor, group: int, here: slice, seen: slice, kv: int, how: Scores
) -> Tensor:
    keys = scores.shape[2]
    wide = scores.float().view(-1, kv, here.stop - here.start, group, keys) * how.scale
    if how.softcap:
        wide = how.softcap * torch.tanh(wide / how.softcap)
    key = torch.arange(seen.start, seen.stop, device=scores.device)
    query = torch.arange(here.start, here.stop, device=scores.device)[:, None, None]
    if how.alibi_slopes is not None:
        wide = wide + how.alibi_slopes.to(wide).view(kv, 1, group, 1) * (key - query)
    hidden = key > query
    if how.window:
        hidden = hidden | (key <= query - how.window)
    probs = wide.masked_fill(hidden, float("-inf")).softmax(-1)
    return probs.to(scores.dtype).view_as(scores)


def _scores_gradient(grad: Tensor, probs: Tensor, scores: Tensor, how: Scores) -> None:
    """Turn the gradient of the probabilities into that of the raw scores, in place."""
    run = kernel("softmax_back", grad)
    if run is not None:
        rows, keys = grad.shape[0] * grad.shape[1], grad.shape[2]
        run(
            grad.data_ptr(), probs.data_ptr(), scores.data_ptr(), rows, keys,
            how.scale, how.softcap or 0.0,
        )  # fmt: skip
        return
    wide, p = grad.float(), probs.float()
    slope = p * (wide - (wide * p).sum(-1, keepdim=True)) * how.scale
    if how.softcap:
        slope = slope * (1 - torch.tanh(scores.float() * how.scale / how.softcap) ** 2)
    grad.copy_(slope)
