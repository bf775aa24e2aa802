"""Tensors under the names and in the shapes of the base's own files.

transformers renames some modules while loading, joins the experts of a layer and divides joint
projections.
``save_pretrained`` undoes both, so that every other program reads the result; so does this, one
tensor at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from lorita.export.merged.safetensors_writer import Entry

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from lorita.export.merged.weights import Weight


def entries(
    model: PreTrainedModel, weights: Iterable[Weight], dtype: torch.dtype
) -> Iterator[Entry]:
    """What is written for the ``weights`` of ``model`` in ``dtype``.

    Each is an entry itself, or several, or several are one. What belongs together is computed when
    the first entry is read, and kept until the last one was.
    """
    for together in _written_together(model, weights):
        yield from _entries(model, together, dtype)


def _written_together(
    model: PreTrainedModel, weights: Iterable[Weight]
) -> Iterable[Sequence[Weight]]:
    """The weights in groups that share no name in the files."""
    groups: list[list[Weight]] = []
    group_of: dict[str, list[Weight]] = {}
    for weight in weights:
        names = _in_files(model, {weight.name: _shape_of(weight)})
        group = next((group_of[name] for name in names if name in group_of), None)
        if group is None:
            group = []
            groups.append(group)
        group.append(weight)
        group_of |= dict.fromkeys(names, group)
    return groups


def _entries(
    model: PreTrainedModel, weights: Sequence[Weight], dtype: torch.dtype
) -> Iterator[Entry]:
    def read() -> dict[str, torch.Tensor]:
        return _in_files(model, {weight.name: weight.read().to(dtype) for weight in weights})

    shapes = _in_files(model, {weight.name: _shape_of(weight) for weight in weights})
    kept: dict[str, torch.Tensor] = {}

    def part(name: str) -> torch.Tensor:
        if name not in kept:
            kept.update(read())
        return kept.pop(name)

    for name, tensor in shapes.items():
        yield Entry(name, tuple(tensor.shape), lambda name=name: part(name), dtype)  # type: ignore[misc]


def _shape_of(weight: Weight) -> torch.Tensor:
    import torch

    return torch.empty(weight.shape, device="meta")


def _in_files(model: PreTrainedModel, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Some tensors of the model as ``save_pretrained`` would write them."""
    from transformers.core_model_loading import revert_weight_conversion

    found: dict[str, torch.Tensor] = revert_weight_conversion(model, tensors)
    return found
