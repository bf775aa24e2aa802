"""The weights of a GGUF file as a model, in the order and under the names of transformers.

Families that ``gguf_layout`` does not know are read with transformers' own rules
(``gguf_other_weights``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from lorita.errors import ModelError
from lorita.models.gguf_files import GgufFile, StoredTensor
from lorita.models.gguf_layout import LAYOUTS, Layout, TensorNames
from lorita.models.gguf_model import Loaded, ReadTensor, filled_model, model_shell, unused_in
from lorita.models.gguf_other_weights import load_other

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig


def load_weights(
    file: GgufFile,
    read: ReadTensor,
    config: PretrainedConfig,
    dtype: torch.dtype,
    keep: ReadTensor | None = None,
) -> Loaded:
    """The model in ``dtype``; ``ModelError`` if the file does not fit its own header.

    ``read`` reads one tensor (``gguf_tensors.read_tensor``). ``keep`` reads a matrix that is the
    file's own, row by row, if such are to stay as they are there (``gguf_tensors.read_blocks``).
    """
    layout = LAYOUTS.get(config.model_type)
    if layout is None or layout.pieces:
        return load_other(file, read, config, dtype)
    return _filled(file, read, layout, config, dtype, keep or read)


def _filled(
    file: GgufFile,
    read: ReadTensor,
    layout: Layout,
    config: PretrainedConfig,
    dtype: torch.dtype,
    keep: ReadTensor,
) -> Loaded:
    """A model of a family whose layout is known."""
    shell = model_shell(config, dtype)
    shapes = {name: tuple(weight.shape) for name, weight in shell.state_dict().items()}
    state = {}
    taken = set()
    for name, stored in _pairs(shapes, TensorNames(layout, config), file):
        tensor = _as_in_model(read, stored, layout, name, config, dtype, keep)
        if tuple(tensor.shape) != shapes[name]:
            raise ModelError(
                f"{file.path}: {stored.name} has the shape {list(tensor.shape)}, but the model's "
                f"configuration says {list(shapes[name])}",
                hint="The file is damaged, or was made by a program that writes it differently.",
            )
        state[name] = tensor
        taken.add(stored.name)
    return filled_model(shell, state, unused_in(file, taken))


def _pairs(
    weights: Iterable[str], names: TensorNames, file: GgufFile
) -> Iterator[tuple[str, StoredTensor]]:
    """Each weight of the model that the file has, and where it is there."""
    for name in weights:
        stored = file.tensors.get(names.of(name) or "")
        if stored is not None:
            yield name, stored


def _as_in_model(
    read: ReadTensor,
    stored: StoredTensor,
    layout: Layout,
    name: str,
    config: Any,
    dtype: torch.dtype,
    keep: ReadTensor,
) -> torch.Tensor:
    """A weight in the order of the model; the inverse of ``Layout.to_file``."""
    import torch

    module, _, leaf = name.rpartition(".")
    order = layout.row_order(module, config, stored.shape[0])
    if order is not None:
        order = torch.argsort(order)
    if layout.norm_offset and name.endswith("norm.weight"):
        return (read(stored, torch.float32, order) - layout.norm_offset).to(dtype)
    turned = leaf == "weight" and layout.turns(module)
    as_it_is = len(stored.shape) == 2 and not turned
    tensor = (keep if as_it_is else read)(stored, dtype, order)
    return tensor.t().contiguous() if turned else tensor
