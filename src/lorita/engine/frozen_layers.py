"""Layers below the first adapted one compute the same for a row in every epoch: keep the result.

With ``layers_to_transform`` only the upper layers learn. The hidden states that enter the first of
them are kept for each row, and the layers below are passed over when a row comes again. Exact: the
kept numbers are the computed ones. Not for models that drop activations below, nor for trained
embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class BottomCache:
    """Hidden states [tokens, D] that enter layer ``first``, by row id, up to ``limit`` bytes."""

    layers: Sequence[nn.Module]
    first: int
    limit: int
    rows: dict[Hashable, Tensor] = field(default_factory=dict)
    bytes: int = 0

    def known(self, row_ids: Sequence[Hashable]) -> bool:
        return all(row in self.rows for row in row_ids)

    def keep(self, row_ids: Sequence[Hashable], lengths: Sequence[int], hidden_TD: Tensor) -> None:
        """Take in the states of some rows; what goes over the limit is not kept."""
        for row, states in zip(row_ids, hidden_TD.detach().split(list(lengths)), strict=True):
            if row not in self.rows and self.bytes + states.nbytes <= self.limit:
                self.rows[row] = states.clone()
                self.bytes += states.nbytes

    def stacked(self, row_ids: Sequence[Hashable]) -> Tensor:
        return torch.cat([self.rows[row] for row in row_ids])

    @contextmanager
    def passed_over(self, row_ids: Sequence[Hashable]) -> Iterator[None]:
        """Inside, the lower layers hand the kept states on instead of computing."""
        states = self.stacked(row_ids)[None]
        below = self.layers[: self.first]
        before = [vars(layer).get("forward") for layer in below]
        for layer in below:
            layer.forward = _hand_on(layer, states)
        try:
            yield
        finally:
            for layer, forward in zip(below, before, strict=True):
                if forward is None:
                    del layer.forward
                else:
                    layer.forward = forward

    @contextmanager
    def listening(self, row_ids: Sequence[Hashable], lengths: Sequence[int]) -> Iterator[None]:
        """Inside, what enters the first adapted layer is kept."""

        def hear(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            self.keep(row_ids, lengths, hidden[0])

        handle = self.layers[self.first].register_forward_pre_hook(hear, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()


def _hand_on(layer: nn.Module, states: Tensor) -> Callable[..., Any]:
    # Blocks of older families return a tuple.
    returns_tuple = type(layer).__name__ in ("BloomBlock", "FalconDecoderLayer")

    def forward(*args: Any, **kwargs: Any) -> Any:
        return (states, None) if returns_tuple else states

    return forward


def bottom_cache(lm: Any, limit: int) -> BottomCache | str:
    """A cache for this model, or the reason why there is nothing to keep."""
    layers = _layers(lm)
    if layers is None:
        return "its layers were not found"
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
    """Whether a part that is passed over, or the embedding, drops activations in training."""
    names = ("hidden_dropout", "attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop",
             "dropout", "residual_dropout", "embedding_dropout")  # fmt: skip
    config = lm.config.get_text_config()
    configured = any(float(getattr(config, name, 0.0) or 0.0) > 0 for name in names)
    modules = (m for layer in below for m in layer.modules() if isinstance(m, nn.Dropout))
    return configured or any(module.p > 0 for module in modules)
