"""LoRA linear layers that share an input, as one product and one backward pass.

``y = x·Wᵀ + bias + scaling · drop(x)·Aᵀ·Bᵀ`` for several layers at once: their weights are in one
buffer (each layer's own weight is a view of some of its rows), their A's are stacked, their B's are
the blocks of a block diagonal. The base weight is frozen and gets no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lorita.engine.activated import ActivatedVariant
from lorita.engine.autocast import NarrowCopies, for_product, own_formats
from lorita.engine.kernels.dropout import add_kept, drop
from lorita.engine.kernels.int8 import Int8Weight, rounds
from lorita.engine.kernels.ops import column_sums
from lorita.engine.kernels.products import (
    QuantisedWeight,
    add_times,
    product,
    product_back,
    quantised,
    times,
)
from lorita.engine.linears import weight_of


@dataclass(frozen=True)
class Member:
    """One linear layer of a group, with or without an adapter."""

    base: nn.Module
    """A plain linear layer (``linears.py``)."""
    layer: nn.Module | None = None
    """PEFT's LoRA layer around ``base``."""
    adapter: str = "default"

    @property
    def out_features(self) -> int:
        """The width of the layer's output."""
        return int(weight_of(self.base).shape[0])

    @property
    def is_active(self) -> bool:
        """Whether the adapter takes part: it exists, is switched on and not merged."""
        layer: Any = self.layer
        return layer is not None and not layer.disable_adapters and not layer.merged

    @property
    def is_merged(self) -> bool:
        """Whether an adapter is part of the layer's weight at present."""
        layer: Any = self.layer
        return layer is not None and bool(layer.merged)

    @property
    def matrices(self) -> tuple[Tensor, Tensor]:
        """The adapter's A [r, I] and B [O, r]."""
        layer: Any = self.layer
        return layer.lora_A[self.adapter].weight, layer.lora_B[self.adapter].weight

    @property
    def scaling(self) -> float:
        """The factor of the adapter's output, ``lora_alpha / r`` by default."""
        layer: Any = self.layer
        return float(layer.scaling[self.adapter])

    def acts_on(self, x: Tensor) -> Tensor | None:
        """1 for the rows of ``x`` that the adapter acts on and else 0, [..., 1]; None: on all."""
        layer: Any = self.layer
        variant = getattr(layer, "lora_variant", {}).get(self.adapter)
        if not isinstance(variant, ActivatedVariant):
            return None
        return variant.activation.of(self.adapter, x)

    @property
    def dropout(self) -> float:
        """The share of inputs to drop in this call; 0 in evaluation."""
        if self.layer is None:
            return 0.0
        layer: Any = self.layer
        drop = layer.lora_dropout[self.adapter]
        return float(drop.p) if isinstance(drop, nn.Dropout) and drop.training else 0.0


class Group:
    """Layers with the same input: called with [..., I], returns [..., sum of the outputs]."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        self.sizes = [member.out_features for member in members]
        self.weight = _one_weight(self.members)
        self.int8: Int8Weight | None = None
        self._copies = NarrowCopies()
        self._stamps = self._stamps_now()

    def frozen(self, dtype: torch.dtype) -> Tensor | Int8Weight | QuantisedWeight:
        """The weight of all layers, as used in products of inputs in ``dtype``."""
        if any(member.is_merged for member in self.members):
            # The adapter is added in place to the weight or to a new one: no copy has it.
            weights = [weight_of(member.base).detach() for member in self.members]
            self._stamps = ()
            return torch.cat(weights).to(dtype)
        if self._stamps != self._stamps_now():
            self._renew()
        if not isinstance(self.weight, Tensor):
            return self.weight
        if self.int8 is not None and rounds():
            return self.int8
        return self._copies.of(self.weight, dtype)

    def _stamps_now(self) -> tuple[tuple[int, int], ...]:
        """Where each layer's weight is, and its version: they tell when it has changed."""
        weights: list[Any] = [member.base.weight for member in self.members]
        return tuple((weight.data_ptr(), weight._version) for weight in weights)

    def _renew(self) -> None:
        self.weight, self._copies = _one_weight(self.members), NarrowCopies()
        if self.int8 is not None:
            self.use_int8()
        self._stamps = self._stamps_now()

    def use_int8(self) -> None:
        """Compute the products of the base weights in 8-bit integers from now on.

        ``ValueError`` for weights that stay quantised in another way.
        """
        if not isinstance(self.weight, Tensor):
            raise ValueError("base_precision = 'int8': the weights are quantised blocks already")
        self.int8 = Int8Weight.of(self.weight)

    def __call__(self, x: Tensor) -> Tensor:
        active = [i for i, member in enumerate(self.members) if member.is_active]
        share = max((self.members[i].dropout for i in active), default=0.0)
        pairs = [matrix for i in active for matrix in self.members[i].matrices]
        biases = [member.base.bias for member in self.members]
        flat = for_product(x).reshape(-1, x.shape[-1])
        acts = self.members[active[0]].acts_on(flat) if active else None
        out = _LoraLinear.apply(flat, self, tuple(active), share, acts, *biases, *pairs)
        return out.view(*x.shape[:-1], -1)  # type: ignore[no-any-return]


def _one_weight(members: Sequence[Member]) -> Tensor | QuantisedWeight:
    """The weights [outputs, I] as one tensor, of which the layers keep views; blocks stay apart."""
    first, *others = (quantised(weight_of(member.base)) for member in members)
    if first is not None:
        return first.beside([other for other in others if other is not None])
    if len(members) == 1:
        return weight_of(members[0].base)
    weights: list[Any] = [member.base.weight for member in members]
    fused = torch.cat([weight.detach() for weight in weights])
    for weight, rows in zip(weights, fused.split([len(w) for w in weights]), strict=True):
        weight.data = rows
    return fused


class _LoraLinear(torch.autograd.Function):
    """``rest`` is a bias (or None) per member, followed by A and B per active member.

    ``acts`` [T, 1] is 0 for the tokens that the adapters leave alone; None: they act on all.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        group: Group,
        active: tuple[int, ...],
        share: float,
        acts: Tensor | None,
        *rest: Tensor | None,
    ) -> Tensor:
        count = len(group.members)
        biases, pairs = rest[:count], rest[count:]
        ctx.weight = group.frozen(x.dtype)
        out = product(x, ctx.weight)
        _add_biases(out, biases, group.sizes)
        ctx.group, ctx.active, ctx.count = group, active, count
        if not active:
            return out
        down, up = _stacked(group, active, pairs, share, x)
        dropped, *kept = drop(x, share) if share else (x,)
        low = product(dropped, down)
        if acts is not None:
            low *= acts
        add_times(out, low, up.t())
        ctx.save_for_backward(dropped, low, down, up, *kept)
        ctx.share, ctx.acts = share, acts
        ctx.scales = [group.members[i].scaling / (1 - share) for i in active]
        return out

    @staticmethod
    @own_formats
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        rest = ctx.saved_tensors
        group: Group = ctx.group
        grad = grad.contiguous()
        needs = ctx.needs_input_grad
        d_biases = [
            column_sums(part) if needs[5 + i] else None
            for i, part in enumerate(grad.split(group.sizes, dim=1))
        ]
        d_x = product_back(grad, ctx.weight) if needs[0] else None
        if not rest:
            return (d_x, *[None] * 4, *d_biases)
        dropped, low, down, up, *kept = rest
        d_low = times(grad, up)
        if ctx.acts is not None:
            d_low *= ctx.acts
        d_down = times(d_low.t(), dropped).float()
        d_up = times(low.t(), grad).float()
        if d_x is not None and kept:
            add_kept(d_x, times(d_low, down), kept[0], ctx.share)
        elif d_x is not None:
            add_times(d_x, d_low, down)
        return (d_x, *[None] * 4, *d_biases, *_unstacked(group, ctx, d_down, d_up))


def _add_biases(out: Tensor, biases: Sequence[Tensor | None], sizes: Sequence[int]) -> None:
    for part, bias in zip(out.split(list(sizes), dim=1), biases, strict=True):
        if bias is not None:
            part += bias.to(out.dtype)


def _stacked(
    group: Group, active: Sequence[int], pairs: Sequence[Any], share: float, x: Tensor
) -> tuple[Tensor, Tensor]:
    """The A's as [R, I], and the scaled B's as the blocks of [outputs, R], in x's dtype."""
    downs, ups = [a.detach() for a in pairs[0::2]], [b.detach() for b in pairs[1::2]]
    scales = [group.members[i].scaling / (1 - share) for i in active]
    if len(group.members) == 1:
        return downs[0].to(x.dtype), (ups[0] * scales[0]).to(x.dtype)
    down = torch.cat(downs).to(x.dtype)
    up = torch.zeros(sum(group.sizes), len(down), device=x.device)
    column = 0
    for i, b, scale in zip(active, ups, scales, strict=True):
        block = up.narrow(0, sum(group.sizes[:i]), len(b)).narrow(1, column, b.shape[1])
        torch.mul(b, scale, out=block)
        column += b.shape[1]
    return down, up.to(x.dtype)


def _unstacked(group: Group, ctx: Any, d_down: Tensor, d_up: Tensor) -> list[Tensor]:
    """The gradients of each A and B from the gradients of the stacks; d_up is [R, outputs]."""
    if len(group.members) == 1:
        return [d_down, d_up.t() * ctx.scales[0]]
    out: list[Tensor] = []
    column = 0
    for i, scale in zip(ctx.active, ctx.scales, strict=True):
        rank = group.members[i].matrices[0].shape[0]
        row, columns = sum(group.sizes[:i]), slice(column, column + rank)
        block = d_up[columns, row : row + group.sizes[i]]
        out += [d_down[columns].contiguous(), (block.t() * scale).contiguous()]
        column += rank
    return out
