"""How the parts of a model that the engine recognised compute: what their fast forwards need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lorita.engine.kernels.head_layout import Part
from lorita.engine.kernels.score_rule import Scores

Inputs = Any
"""Layers with the same input as one product: a ``Group`` that is trained, or ``JoinedLayers``."""


class Unsuited(Exception):
    """The engine has no fast path for this module; the text says why."""


@dataclass(frozen=True)
class AttentionPlan:
    """An attention module: projections, heads, norms, scores."""

    inputs: Inputs
    """The projections to queries, keys and values, as one product."""
    parts: tuple[Part, ...]
    """Where queries, keys and values are in the product's output."""
    norms: tuple[nn.Module | None, nn.Module | None]
    """Norms of queries and keys, before the rotation."""
    norm_whole: bool
    """The norms span all heads (OLMo 2) instead of each head."""
    scores: Scores
    output: nn.Module
    dropout: float
    """After the output projection."""
    adds_residual: bool
    gated: bool = False
    """The queries' projection also makes gates of the output: of each head, queries, then gates."""

    def without_gates(self, x_TN: Tensor) -> tuple[Tensor, Tensor | None]:
        """The product with queries, keys and values only, and the gates [T, H·d]; None for none."""
        if not self.gated:
            return x_TN, None
        heads, d = self.parts[0].heads, self.parts[0].d
        both, rest = x_TN.split([2 * heads * d, x_TN.shape[1] - 2 * heads * d], dim=1)
        queries, gates = both.reshape(len(x_TN), heads, 2, d).unbind(2)
        return torch.cat([queries.flatten(1), rest], dim=1), gates.flatten(1)

    def pieces(self, x_TN: Tensor) -> Iterator[tuple[Tensor, Part]]:
        """Queries, keys and values of the product ``x_TN``, each with where its heads are.

        Normed where the plan has norms, which precede the rotation.
        """
        for part, norm in zip(self.parts, (*self.norms, None), strict=True):
            if self.norms[0] is None:
                yield x_TN, part
                continue
            width = part.heads * part.d
            piece = x_TN[:, part.offset : part.offset + width]
            if norm is not None:
                shape = (len(x_TN), -1) if self.norm_whole else (len(x_TN), part.heads, part.d)
                # A float32 norm under autocast: attention is a product, in the narrow format.
                piece = norm(piece.reshape(shape)).reshape(len(x_TN), -1).to(x_TN.dtype)
            yield piece, replace(part, offset=0)


@dataclass(frozen=True)
class GatedPlan:
    """A gated MLP: ``output(act(gate) · up)``."""

    inputs: Inputs
    """Gate and up as one product."""
    kind: str
    """``silu`` or ``gelu_tanh``."""
    output: nn.Module


@dataclass(frozen=True)
class NormPlan:
    """A root-mean-square norm: ``x / rms(x) · weight``."""

    eps: float
    plus_one: bool
    """The factor is ``1 + weight``."""
