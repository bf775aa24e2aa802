"""Embeddings and output heads of which only single rows are trained (PEFT's trainable tokens).

PEFT writes these rows into a copy of the whole matrix in every call, and its backward pass goes
through all of it. Here the matrix stays where it is: rows are looked up, and logits computed,
beside it. The numbers are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class TokenRows:
    """A frozen ``base`` layer with a row for each token, and the trained rows in their place.

    ``ids_R`` are their tokens in ascending order, ``rows_RD`` their weights.
    """

    base: Any
    ids_R: Tensor
    rows_RD: Tensor


def token_rows(module: Any) -> TokenRows | None:
    """What takes part in a call of PEFT's wrapper for single tokens now.

    None for any other module, and where PEFT computes something else than that: with an adapter
    that is off or merged, with several, or over a layer that is neither embedding nor plain linear.
    """
    from peft.tuners.trainable_tokens.layer import TrainableTokensLayer

    layer = getattr(module, "token_adapter", module)
    if not isinstance(layer, TrainableTokensLayer) or layer.disable_adapters or layer.merged:
        return None
    active = [name for name in layer.active_adapters if name in layer.trainable_tokens_delta]
    base: Any = layer.get_base_layer()
    known = isinstance(base, nn.Embedding) or (type(base) is nn.Linear and base.bias is None)
    if len(active) != 1 or not known or base.weight.requires_grad:
        return None
    ids = list(layer.token_indices[active[0]])
    if ids != sorted(set(ids)):
        return None
    ids_R = torch.tensor(ids, device=base.weight.device)
    return TokenRows(base, ids_R, layer.trainable_tokens_delta[active[0]])


def token_rows_forward(layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """The forward of a ``TrainableTokensLayer``: of an embedding, or of an output head."""

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        known = token_rows(layer)
        if known is None or args or kwargs:
            return original(x, *args, **kwargs)
        rows_RD = known.rows_RD.to(known.base.weight.dtype)
        if isinstance(known.base, nn.Embedding):
            scale = layer._get_embed_scale()
            return _looked_up(known, x, rows_RD if scale is None else rows_RD * scale)
        out = functional.linear(x, known.base.weight)
        return out.index_copy(-1, known.ids_R, functional.linear(x, rows_RD.to(x.dtype)))

    return forward


def set_token_rows(model: nn.Module) -> None:
    """Set this forward on the layers of a model of which single rows are trained."""
    for module in model.modules():
        if token_rows(module) is not None and not hasattr(module, "token_adapter"):
            vars(module)["forward"] = token_rows_forward(module, module.forward)


def _looked_up(known: TokenRows, ids: Tensor, rows_RD: Tensor) -> Tensor:
    """Embeddings [*ids, D], with those of the trained tokens from ``rows_RD``."""
    out: Tensor = known.base(ids)
    flat_T = ids.reshape(-1)
    place_T = torch.searchsorted(known.ids_R, flat_T).clamp_(max=len(known.ids_R) - 1)
    where_N = (known.ids_R[place_T] == flat_T).nonzero()[:, 0]
    flat_TD = out.reshape(-1, out.shape[-1])
    mine_ND = rows_RD[place_T[where_N]].to(out.dtype)
    return flat_TD.index_copy(0, where_N, mine_ND).view(out.shape)
