"""What one more token of a text costs: products of a few rows, attention to the keys in a cache.

Compiled kernels where there are any (``decode.cpp``, ``cached_attention.cpp``), plain torch
elsewhere. Inference only: there are no gradients.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from lorita.engine.kernels.head_layout import Part, Rotation, flat_heads
from lorita.engine.kernels.native import kernel
from lorita.engine.kernels.products import QuantisedWeight, product
from lorita.engine.kernels.score_rule import Scores


@dataclass(frozen=True)
class LowRank:
    """An adapter of one layer: ``scale · x·downᵀ·upᵀ`` is added. Both matrices are float32."""

    down: Tensor
    """[rank, inputs]"""
    up: Tensor
    """[outputs, rank]"""
    scale: float


@dataclass(frozen=True)
class FrozenLayer:
    """A linear layer, and its part of each adapter of the model: None where it has none."""

    weight: Tensor | QuantisedWeight
    """[outputs, inputs]; the layer's own tensor, or its transposed view, or quantised blocks."""
    bias: Tensor | None = None
    adapters: Sequence[LowRank | None] = ()


class JoinedLayers:
    """Layers with the same input: called with rows [n, inputs], returns their outputs side by side.

    Weights are used where they are. ``adapter_n`` [n] says for each row which adapter is added to
    its product, -1 for none; None for no adapter at all.
    """

    def __init__(self, layers: Sequence[FrozenLayer]) -> None:
        self.layers = list(layers)
        self.sizes = [len(layer.weight) for layer in layers]
        self._described = _describe(self.layers)
        self._adapted = any(added is not None for layer in layers for added in layer.adapters)

    def __call__(
        self, x_nI: Tensor, adapter_n: Tensor | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """The outputs [n, sum of the sizes], in the type of ``x_nI`` or float32."""
        if not self._adapted:
            adapter_n = None
        run = kernel("products", x_nI) if self._described else None
        if run is None or len(x_nI) > self._most_rows(x_nI):
            return self._in_torch(x_nI, adapter_n).to(dtype or x_nI.dtype)
        x_nI = x_nI.contiguous()
        width = sum(self.sizes)
        out = torch.empty(len(x_nI), width, dtype=dtype or x_nI.dtype)
        run(
            ctypes.addressof(self._described[0]), x_nI.data_ptr(),
            None if adapter_n is None else adapter_n.data_ptr(), len(x_nI), out.data_ptr(),
            width, out.dtype == torch.float32,
        )  # fmt: skip
        return out

    def _most_rows(self, like: Tensor) -> int:
        quantised = any(not isinstance(layer.weight, Tensor) for layer in self.layers)
        return min(_most_rows(like), MOST_ROWS_OF_BLOCKS) if quantised else _most_rows(like)

    def _in_torch(self, x_nI: Tensor, adapter_n: Tensor | None) -> Tensor:
        outs = []
        for layer in self.layers:
            bias = None if layer.bias is None else layer.bias.to(x_nI.dtype)
            out = product(x_nI, layer.weight, bias)
            if adapter_n is not None:
                for number, added in enumerate(layer.adapters):
                    if added is None:
                        continue
                    mine = (adapter_n == number).nonzero().squeeze(1)
                    low = functional.linear(x_nI[mine].float(), added.down) * added.scale
                    out[mine] = (out[mine].float() + functional.linear(low, added.up)).to(out)
            outs.append(out)
        return torch.cat(outs, 1) if len(outs) > 1 else outs[0]


MOST_ROWS_OF_BLOCKS = 32
"""For more rows, blocks are expanded for a library's product."""


def _most_rows(like: Tensor) -> int:
    """Rows up to this many are computed by the kernel, which reads each weight once."""
    if like.dtype not in _known_most:
        ask = kernel("most_rows", like)
        _known_most[like.dtype] = int(ask()) if ask is not None else 0
    return _known_most[like.dtype]


_known_most: dict[torch.dtype, int] = {}


class _Adapter(ctypes.Structure):
    _fields_ = (
        ("down", ctypes.c_void_p),
        ("up", ctypes.c_void_p),
        ("rank", ctypes.c_int64),
        ("scale", ctypes.c_float),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        ("weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("adapters", ctypes.c_void_p),
        ("outputs", ctypes.c_int64),
        ("transposed", ctypes.c_int64),
        ("wide_bias", ctypes.c_int64),
        ("kind", ctypes.c_int64),
    )


class _Layers(ctypes.Structure):
    _fields_ = (
        ("layers", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("adapters", ctypes.c_int64),
        ("most_rank", ctypes.c_int64),
    )


def _describe(layers: Sequence[FrozenLayer]) -> tuple[Any, ...]:
    """The layers for the kernel, and what has to stay in memory; empty if it cannot take them."""
    kept: list[Any] = []
    described = (_Layer * len(layers))()
    most_rank = 0
    for entry, layer in zip(described, layers, strict=True):
        place, bias = _place_of(layer.weight), layer.bias
        if place is None:
            return ()
        if bias is not None and (
            bias.dtype not in (layer.weight.dtype, torch.float32) or not bias.is_contiguous()
        ):
            return ()
        table = (_Adapter * max(len(layer.adapters), 1))()
        for row, added in zip(table, layer.adapters, strict=False):
            if added is not None:
                matrices = added.down, added.up
                if not all(m.is_contiguous() and m.dtype == torch.float32 for m in matrices):
                    return ()
                row.down, row.up = (matrix.data_ptr() for matrix in matrices)
                row.rank, row.scale = len(added.down), added.scale
                most_rank = max(most_rank, len(added.down))
        entry.weight, entry.transposed, entry.kind = place
        entry.outputs = len(layer.weight)
        entry.bias = None if bias is None else bias.data_ptr()
        entry.wide_bias = bias is not None and bias.dtype == torch.float32
        entry.adapters = ctypes.addressof(table)
        kept.append(table)
    width = layers[0].weight.shape[1]
    whole = _Layers(
        ctypes.addressof(described), len(layers), width, len(layers[0].adapters), most_rank
    )
    return (whole, described, kept)


def _place_of(weight: Tensor | QuantisedWeight) -> tuple[int, bool, int] | None:
    """Where a weight is, whether it is transposed, and the format of its blocks, 0 without.

    None if the kernel cannot take it.
    """
    if not isinstance(weight, Tensor):
        blocks = weight.place()
        return None if blocks is None else (blocks[0], False, blocks[1])
    transposed = not weight.is_contiguous()
    if transposed and not weight.t().is_contiguous():
        return None
    return weight.data_ptr(), transposed, 0


class _Attention(ctypes.Structure):
    _fields_ = (
        ("slopes", ctypes.c_void_p),
        ("kv", ctypes.c_int64),
        ("group", ctypes.c_int64),
        ("d", ctypes.c_int64),
        ("half", ctypes.c_int64),
        ("window", ctypes.c_int64),
        ("q_stride", ctypes.c_int64),
        ("k_stride", ctypes.c_int64),
        ("v_stride", ctypes.c_int64),
        ("scale", ctypes.c_float),
        ("cap", ctypes.c_float),
    )


class _Cache(ctypes.Structure):
    _fields_ = (
        ("k", ctypes.c_void_p),
        ("v", ctypes.c_void_p),
        ("capacity", ctypes.c_int64),
    )


class KeysValues(Protocol):
    """Keys and values of one attention layer, each [slots, K, capacity, d]."""

    k: Tensor
    v: Tensor


Piece = tuple[Tensor, Part]
"""Heads, and where they are in the tensor [n, …]."""


def attend(
    pieces: tuple[Piece, Piece, Piece],
    how: Scores,
    cache: KeysValues,
    turn: Rotation | None,
    slots_n: Tensor,
    places_n: Tensor,
) -> Tensor:
    """Attention of new tokens of some texts to all tokens before them, [n, H·d].

    ``pieces`` are queries, keys and values of the new tokens. Token ``i`` belongs to the text in
    slot ``slots_n[i]``, at position ``places_n[i]``, where its key and value are stored first.
    """
    (q, of_q), (k, of_k), (v, of_v) = pieces
    run = kernel("attend", q)
    if run is None:
        return _attend_in_torch(pieces, how, cache, turn, slots_n, places_n)
    turn = turn if of_q.rotate else None
    slopes = how.alibi_slopes
    described = _Attention(
        None if slopes is None else slopes.data_ptr(), of_k.heads, of_q.group, of_q.d,
        turn.cos_Tf.shape[-1] if turn else 0, how.window or 0, of_q.stride, of_k.stride,
        of_v.stride, how.scale, how.softcap or 0.0,
    )  # fmt: skip
    stored = _Cache(cache.k.data_ptr(), cache.v.data_ptr(), cache.k.shape[2])
    out = torch.empty(len(q), of_q.heads * of_q.d, dtype=q.dtype)
    size = q.itemsize
    run(
        ctypes.addressof(described), ctypes.addressof(stored),
        q.data_ptr() + of_q.offset * size, q.stride(0),
        k.data_ptr() + of_k.offset * size, k.stride(0),
        v.data_ptr() + of_v.offset * size, v.stride(0),
        turn.cos_Tf.data_ptr() if turn else None, turn.sin_Tf.data_ptr() if turn else None,
        slots_n.data_ptr(), places_n.data_ptr(), len(q), out.data_ptr(),
    )  # fmt: skip
    return out


def _attend_in_torch(
    pieces: tuple[Piece, Piece, Piece],
    how: Scores,
    cache: KeysValues,
    turn: Rotation | None,
    slots_n: Tensor,
    places_n: Tensor,
) -> Tensor:
    q_nHd, k_nKd, v_nKd = (flat_heads(x, part, turn) for x, part in pieces)
    cache.k[slots_n, :, places_n] = k_nKd
    cache.v[slots_n, :, places_n] = v_nKd
    kv, outs = cache.k.shape[1], torch.empty_like(q_nHd)
    for slot in slots_n.unique().tolist():
        mine = (slots_n == slot).nonzero().squeeze(1)
        place, q = places_n[mine][:, None, None, None], q_nHd[mine].unflatten(1, (kv, -1)).float()
        key = torch.arange(int(place.max()) + 1, device=q.device)
        k, v = (t[slot, :, : len(key)].float() for t in (cache.k, cache.v))
        scores = torch.einsum("tkgd,kjd->tkgj", q, k) * how.scale
        if how.softcap is not None:
            scores = how.softcap * torch.tanh(scores / how.softcap)
        if how.alibi_slopes is not None:
            scores = scores + how.alibi_slopes.view(kv, -1, 1).to(scores) * (key - place)
        hidden = key > place
        if how.window:
            hidden = hidden | (key <= place - how.window)
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        outs[mine] = torch.einsum("tkgj,kjd->tkgd", weights, v).to(q_nHd.dtype).flatten(1, 2)
    return outs.flatten(1)
