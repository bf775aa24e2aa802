"""Attention within rows that lie end to end: nothing is computed for positions that do not exist.

Each row is computed in blocks of queries: scores as one batched product over the key/value heads,
a softmax that masks as it goes, and a second product. Short rows keep their probabilities for the
backward pass, long ones compute them again. Layout of queries: [K, T, G, d] with K key/value heads,
G query heads for each, so that a block of a row is one matrix per key/value head without copies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorita.engine.native import kernel
from lorita.engine.rows import RowLayout

BLOCK = 512
"""Queries per block: keys after the block are never touched, so half of a long row is skipped."""
KEPT = 512
"""Rows up to this length keep their probabilities (L² numbers a head); longer ones would need
more memory for them than for everything else."""


@dataclass(frozen=True)
class Scores:
    """How scores are made of products: scaled, capped, biased by distance, windowed."""

    scale: float
    window: int | None = None
    softcap: float | None = None
    alibi_slopes: Tensor | None = None
    """[H] float32, in the order of the query heads."""


def attention(q_KTGd: Tensor, k_KTd: Tensor, v_KTd: Tensor, rows: RowLayout, how: Scores) -> Tensor:
    """Causal attention within each row; returns [K, T, G, d]. See ``reference.attention``."""
    return _Attention.apply(q_KTGd, k_KTd, v_KTd, rows, how)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Block:
    """Queries [start, stop) of a row and the keys [first, stop) that they see; places in T."""

    start: int
    stop: int
    first: int
    kept: bool
    """The row is one block, and its probabilities are kept."""


def _blocks(rows: RowLayout, window: int | None) -> Iterator[_Block]:
    for row_start, length in rows.spans:
        for start in range(0, length, BLOCK):
            first = max(0, start - window + 1) if window else 0
            stop = min(start + BLOCK, length)
            yield _Block(row_start + start, row_start + stop, row_start + first, length <= KEPT)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: RowLayout, how: Scores) -> Tensor:
        out = torch.empty_like(q)
        kept: list[Tensor] = []
        for block in _blocks(rows, how.window):
            scores, probs = _probabilities(q, k, block, how)
            queries = out[:, block.start : block.stop]
            queries.copy_(torch.bmm(probs, v[:, block.first : block.stop]).view_as(queries))
            if block.kept and any(ctx.needs_input_grad[:3]):
                kept += [probs, scores] if how.softcap else [probs]
        ctx.save_for_backward(q, k, v, *kept)
        ctx.rows, ctx.how = rows, how
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # type: ignore[override]
        q, k, v, *kept = ctx.saved_tensors
        how: Scores = ctx.how
        saved = iter(kept)
        d_q, d_k, d_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        grad = grad.contiguous()
        sums: tuple[Tensor, Tensor] | None = None
        for block in _blocks(ctx.rows, how.window):
            if block.kept:
                probs = next(saved)
                scores = next(saved) if how.softcap else probs
            else:
                scores, probs = _probabilities(q, k, block, how)
            here, seen = slice(block.start, block.stop), slice(block.first, block.stop)
            g_block = grad[:, here].flatten(1, 2)
            d_scores = torch.bmm(g_block, v[:, seen].transpose(1, 2))
            _scores_gradient(d_scores, probs, scores, how)
            d_q[:, here] = torch.bmm(d_scores, k[:, seen]).view_as(d_q[:, here])
            d_values = torch.bmm(probs.transpose(1, 2), g_block)
            d_keys = torch.bmm(d_scores.transpose(1, 2), q[:, here].flatten(1, 2))
            if block.kept:
                d_k[:, here], d_v[:, here] = d_keys, d_values
                continue
            # Several blocks add to the same keys: summed in float32, rounded once.
            if sums is None:
                sums = (torch.zeros_like(k, dtype=torch.float32),
                        torch.zeros_like(v, dtype=torch.float32))  # fmt: skip
            sums[0][:, seen] += d_keys
            sums[1][:, seen] += d_values
        if sums is not None:
            for start, length in ctx.rows.spans:
                if length > KEPT:
                    row = slice(start, start + length)
                    d_k[:, row], d_v[:, row] = sums[0][:, row], sums[1][:, row]
        return d_q, d_k, d_v, None, None


def _probabilities(q: Tensor, k: Tensor, block: _Block, how: Scores) -> tuple[Tensor, Tensor]:
    """Raw scores and probabilities [K, queries·G, keys]; the same tensor unless there is a cap."""
    queries = q[:, block.start : block.stop].flatten(1, 2)
    scores = torch.bmm(queries, k[:, block.first : block.stop].transpose(1, 2))
    run = kernel("softmax", scores)
    if run is None:
        return scores, _eager_softmax(scores, q.shape[2], block, how)
    probs = torch.empty_like(scores) if how.softcap else scores
    slopes = how.alibi_slopes
    run(
        scores.data_ptr(), probs.data_ptr(), None if slopes is None else slopes.data_ptr(),
        q.shape[0], block.stop - block.start, q.shape[2], block.stop - block.first,
        block.start - block.first, how.window or 0, how.scale, how.softcap or 0.0,
    )  # fmt: skip
    return scores, probs


def _eager_softmax(scores: Tensor, group: int, block: _Block, how: Scores) -> Tensor:
    kv, _, keys = scores.shape
    wide = scores.float().view(kv, -1, group, keys) * how.scale
    if how.softcap:
        wide = how.softcap * torch.tanh(wide / how.softcap)
    key = torch.arange(block.first, block.stop, device=scores.device)
    query = torch.arange(block.start, block.stop, device=scores.device)[:, None, None]
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
