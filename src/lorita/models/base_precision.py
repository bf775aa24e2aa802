"""Which bases can be held in memory as quantised blocks, and how such blocks are made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lorita.errors import ModelError
from lorita.models.base import NATIVE, Base, Precision, load_config
from lorita.models.gguf_files import float_type
from lorita.models.gguf_layout import LAYOUTS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from lorita.engine.kernels.block_weight import Blocks

IN_MEMORY = {"q8": (8, "Q8_0"), "q4": (3, "Q4_1")}
"""The number in ggml of the format into which weights are quantised, and its name."""
PRECISIONS: tuple[Precision, ...] = ("native", "q8", "q4")
ROWS_AT_ONCE = 2**22
"""Numbers that gguf-py quantises at a time."""


def can_stay_quantised(base: Base) -> bool:
    """Whether this is a quantised GGUF file whose blocks can be used as they are."""
    if base.gguf_path is None or float_type(base.gguf_path) is not None:
        return False
    return load_config(base).model_type in LAYOUTS


def with_precision(base: Base, asked: str | None) -> Base:
    """The base, to be held in memory as ``native``, ``q8`` or ``q4`` says; others change nothing.

    ``ModelError`` where its files do not allow that.
    """
    if asked == NATIVE and base.gguf_path is None:
        raise ModelError(
            f"{base.name}: --base-precision native is for GGUF files",
            hint="--base-precision q8 or q4 quantises the weights of any model when it is loaded.",
        )
    if asked == NATIVE and (kind := load_config(base).model_type) not in LAYOUTS:
        raise ModelError(
            f"{base.name}: the weights of a GGUF file of {kind} cannot stay quantised",
            hint=f"They can for {', '.join(LAYOUTS)}. Leave --base-precision out.",
        )
    if asked in IN_MEMORY and base.gguf_path is not None:
        raise ModelError(
            f"{base.name}: --base-precision {asked} is for models in Hugging Face format",
            hint="--base-precision native keeps the blocks of a GGUF file as they are.",
        )
    precision = next((known for known in PRECISIONS if known == asked), None)
    return base if precision is None else replace(base, precision=precision)


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

    from lorita.engine.kernels.block_weight import Blocks

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
