"""Tensors under the names and in the shapes of the base's own files.

transformers renames some modules while loading and joins the experts of a layer.
``save_pretrained`` undoes both, so that every other program reads the result; so does this, one
tensor at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lorita.export.merged.safetensors_writer import Entry

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from lorita.export.merged.weights import Weight


def entries(model: PreTrainedModel, weight: Weight, dtype: torch.dtype) -> Iterator[Entry]:
    """What is written for ``weight`` of ``model`` in ``dtype``: itself, or its parts in the files.

    All parts are computed together when the first is read, and kept until the last one was.
    """
    import torch

    def read() -> dict[str, torch.Tensor]:
        return _in_files(model, weight.name, weight.read().to(dtype))

    shapes = _in_files(model, weight.name, torch.empty(weight.shape, device="meta"))
    kept: dict[str, torch.Tensor] = {}

    def part(name: str) -> torch.Tensor:
        if name not in kept:
            kept.update(read())
        return kept.pop(name)

    for name, tensor in shapes.items():
        yield Entry(name, tuple(tensor.shape), lambda name=name: part(name), dtype)  # type: ignore[misc]


def _in_files(model: PreTrainedModel, name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """One tensor of the model as ``save_pretrained`` would write it."""
    from transformers.core_model_loading import revert_weight_conversion

    found: dict[str, torch.Tensor] = revert_weight_conversion(model, {name: tensor})
    return found
