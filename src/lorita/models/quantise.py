"""Quantise a model's weights when it is loaded: blocks as GGUF files hold them, made by gguf-py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lorita.errors import ModelError
from lorita.models.base_precision import IN_MEMORY

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from lorita.engine.block_tensor import Blocks

ROWS_AT_ONCE = 2**22
"""Numbers that gguf-py quantises at a time."""


def quantise(model: PreTrainedModel, precision: str) -> None:
    """Replace the weights of linear layers and embeddings by quantised blocks, one at a time.

    Weights whose rows are no whole blocks stay as they are. Embeddings and output heads keep 8 bits
    in any case, as in llama.cpp.
    """
    import torch

    from lorita.engine.block_tensor import BlockTensor

    done: dict[int, torch.nn.Parameter] = {}
    ends: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    for module in _quantisable(model):
        kind, _ = IN_MEMORY["q8" if module in ends else precision]
        weight = module.weight
        if id(weight) not in done:  # tied embeddings are one tensor
            blocks = quantised(weight.detach(), kind)
            made = BlockTensor(blocks, weight.dtype)
            done[id(weight)] = torch.nn.Parameter(made, requires_grad=False)
        module.weight = done[id(weight)]


def _quantisable(model: PreTrainedModel) -> Iterator[Any]:
    from torch import nn

    for module in list(model.modules()):
        known = type(module) is nn.Linear or isinstance(module, nn.Embedding)
        if known and module.weight.shape[1] % 32 == 0 and not module.weight.is_meta:
            yield module


def quantised(weight_OI: torch.Tensor, kind: int) -> Blocks:
    """A matrix as blocks of this kind, by gguf-py; ``ModelError`` where that is missing."""
    import torch

    from lorita.engine.block_tensor import Blocks

    try:
        from gguf import GGMLQuantizationType, quants
    except ImportError:
        raise ModelError(
            "quantising a model when it is loaded needs the gguf package",
            hint='Install it with: pip install "lorita[gguf]"',
        ) from None
    rows = max(1, ROWS_AT_ONCE // weight_OI.shape[1])
    parts = [
        torch.from_numpy(quants.quantize(part.float().numpy(), GGMLQuantizationType(kind)))
        for part in weight_OI.split(rows)
    ]
    return Blocks(torch.cat(parts), kind)
