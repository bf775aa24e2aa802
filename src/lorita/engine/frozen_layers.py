"""Cache what the layers below the first adapted one compute: it is the same in every epoch.

With ``layers_to_transform`` only the upper layers learn. The hidden states that enter the first of
them are kept for each row, and the layers below are skipped when the row comes again. Exact: the
cached numbers are the computed ones. Not for models that drop activations below, nor for trained
embeddings.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lorita.engine.blocks import other_forwards
from lorita.engine.families import DROPOUTS


@dataclass
class BottomCache:
    """Hidden states [tokens, D] that enter layer ``first``, by row id, up to ``limit`` bytes."""

    layers: Sequence[nn.Module]
    first: int
    limit: int
    rows: dict[Hashable, Tensor] = field(default_factory=dict)
    bytes: int = 0
    _returns: int | None = None
    """The length of the tuple that a layer returns; None for a plain tensor."""

    def known(self, row_ids: Sequence[Hashable]) -> bool:
        """Whether the states of all these rows are cached."""
        return all(row in self.rows for row in row_ids)

    def keep(self, row_ids: Sequence[Hashable], lengths: Sequence[int], hidden_TD: Tensor) -> None:
        """Cache the states of some packed rows, except those that would exceed the limit."""
        for row, states in zip(row_ids, hidden_TD.detach().split(list(lengths)), strict=True):
            if row not in self.rows and self.bytes + states.nbytes <= self.limit:
                self.rows[row] = states.clone()
                self.bytes += states.nbytes

    def stacked(self, row_ids: Sequence[Hashable]) -> Tensor:
        """The states [T, D] of cached rows, packed in this order."""
        return torch.cat([self.rows[row] for row in row_ids])

    @contextmanager
    def passed_over(self, row_ids: Sequence[Hashable]) -> Iterator[None]:
        """In this context, the lower layers return the cached states instead of computing."""
        states = self.stacked(row_ids)[None]
        result = states if self._returns is None else (states, *[None] * (self._returns - 1))
        with other_forwards(self.layers[: self.first], lambda *args, **kwargs: result):
            yield

    @contextmanager
    def listening(self, row_ids: Sequence[Hashable], lengths: Sequence[int]) -> Iterator[None]:
        """In this context, what enters the first adapted layer is cached."""

        def see(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            # Layers of older families return a tuple, of which their model takes the first.
            self._returns = len(output) if isinstance(output, tuple) else None

        def hear(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            self.keep(row_ids, lengths, hidden[0])

        below, first = self.layers[self.first - 1], self.layers[self.first]
        handles = (
            below.register_forward_hook(see),
            first.register_forward_pre_hook(hear, with_kwargs=True),
        )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def bottom_cache(lm: Any, limit: int) -> BottomCache | str:
    """A cache of at most ``limit`` bytes for this model, or the reason why it cannot have one."""
    layers = _layers(lm)
    if layers is None:
        return "the model's layers were not found"
    trained = [any(p.requires_grad for p in layer.parameters()) for layer in layers]
    first = trained.index(True) if True in trained else 0
    if first == 0:
        return "the first layer is adapted"
    inside = {p for layer in layers for p in layer.parameters()}
    if any(p.requires_grad for p in lm.get_input_embeddings().parameters() if p not in inside):
        return "the embeddings are trained"
    if _drops(lm, layers[:first]):
        return "layers below the first adapted one drop activations"
    return BottomCache(layers, first, limit)


def _layers(lm: Any) -> nn.ModuleList | None:
    count = getattr(lm.config.get_text_config(), "num_hidden_layers", None)
    for module in lm.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    return None


def _drops(lm: Any, below: Sequence[nn.Module]) -> bool:
    """Whether a skipped layer or the embedding drops activations in training."""
    config = lm.config.get_text_config()
    configured = any(float(getattr(config, name, 0.0) or 0.0) > 0 for name in DROPOUTS)
    modules = (m for layer in below for m in layer.modules() if isinstance(m, nn.Dropout))
    return configured or any(module.p > 0 for module in modules)
