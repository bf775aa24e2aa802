"""The tensors of a merged GGUF file, each computed when its turn comes to be written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from lorita.errors import AdapterError
from lorita.export.gguf.metadata import rope_tensors
from lorita.export.gguf.number_formats import (
    AS_BASE,
    AT_LEAST_8,
    closest_format,
    eight_bits,
    encode,
    tensor_format,
)
from lorita.export.gguf.writer import Planned, numpy_float32
from lorita.export.merged.weights import Weight, weights
from lorita.models.gguf_files import GgufFile, StoredTensor
from lorita.models.gguf_layout import Layout, TensorNames, is_language_part, text_config
from lorita.models.gguf_tensors import read_tensor

if TYPE_CHECKING:
    import gguf
    import numpy as np
    import torch
    from peft import PeftModel


def whole_model(model: PeftModel, layout: Layout, quantize: str) -> list[Planned]:
    """Every tensor of the merged model."""
    config = text_config(model.get_base_model().config)
    planned = _planned(model, layout, quantize, changed_only=False)
    found = {tensor.name for tensor in planned}
    if layout.output and "output.weight" not in found:
        embeddings = next(tensor for tensor in planned if tensor.name == "token_embd.weight")
        planned.append(Planned("output.weight", embeddings.shape, embeddings.kind, embeddings.make))
    import gguf

    kind = gguf.GGMLQuantizationType.F32
    for name, array in rope_tensors(config).items():
        planned.append(Planned(name, array.shape, kind, lambda array=array: array))  # type: ignore[misc]
    for name, shape in (layout.unused(config) if layout.unused else {}).items():
        planned.append(_plan(name, shape, quantize, {}, partial(_zeros, shape)))
    return planned


def _zeros(shape: tuple[int, ...]) -> torch.Tensor:
    import torch

    return torch.zeros(shape)


Kinds = Mapping[str, "gguf.GGMLQuantizationType"]


def _planned(
    model: PeftModel,
    layout: Layout,
    quantize: str,
    *,
    changed_only: bool,
    kinds: Kinds | None = None,
) -> list[Planned]:
    """The tensors of the merged model, or only those that the adapter changes.

    ``kinds`` are formats by a tensor's name in the file, for ``AS_BASE``.
    """
    whole = model.get_base_model().config
    config = text_config(whole)
    import torch

    names = TensorNames(layout, config)
    planned = []
    stacks: dict[str, list[Weight]] = {}
    for weight in weights(model):
        if (stack := layout.stack_of(weight.name)) is not None:
            stacks.setdefault(stack, []).append(weight)
            continue
        elsewhere = config is not whole and not is_language_part(weight.name)
        if (changed_only or elsewhere) and not weight.changed:
            continue
        meta = torch.empty(weight.shape, device="meta")
        found = layout.in_file(weight.name, meta, config, names)
        if not found or (found[0][0] == "output.weight" and layout.output is None):
            raise AdapterError(f"GGUF files of {config.model_type} cannot hold {weight.name}")
        for number, (name, like) in enumerate(found):
            convert = partial(_part, weight, number, layout, config, names)
            planned.append(_plan(name, tuple(like.shape), quantize, kinds or {}, convert))
    for name, parts in stacks.items():
        if any(part.changed for part in parts) or not changed_only:
            shape = (len(parts), *parts[0].shape)
            planned.append(_plan(name, shape, quantize, kinds or {}, partial(_stack, parts)))
    return planned


def _stack(parts: list[Weight]) -> torch.Tensor:
    """Several weights of one shape as one tensor."""
    import torch

    return torch.stack([part.read().float() for part in parts])


def _part(
    weight: Weight, number: int, layout: Layout, config: Any, names: TensorNames
) -> torch.Tensor:
    """One of the tensors that a weight is in the file."""
    return layout.in_file(weight.name, weight.read().float(), config, names)[number][1]


def _plan(
    name: str,
    shape: tuple[int, ...],
    quantize: str,
    kinds: Kinds,
    convert: Callable[[], torch.Tensor],
) -> Planned:
    if quantize in (AS_BASE, AT_LEAST_8):
        # An output matrix of its own was tied to the embeddings before the adapter changed it.
        own = kinds.get(name, kinds["token_embd.weight"])
        kind = closest_format(own) if quantize == AS_BASE else eight_bits(own)
    else:
        kind = tensor_format(name, shape, quantize)
    return Planned(name, shape, kind, lambda: encode(numpy_float32(convert()), kind))


def over_file(model: PeftModel, layout: Layout, base: GgufFile, quantize: str) -> list[Planned]:
    """The tensors of a GGUF base, with those that the adapter changes replaced."""
    import gguf

    kinds = {t.name: gguf.GGMLQuantizationType(t.kind) for t in base.tensors.values()}
    found = _planned(model, layout, quantize, changed_only=True, kinds=kinds)
    changed = {tensor.name: tensor for tensor in found}
    planned = []
    for tensor in base.tensors.values():
        taken = changed.pop(tensor.name, None)
        planned.append(taken or _kept(base, tensor, quantize))
    # What is left: an output matrix that was tied to the embeddings before the adapter changed it.
    return [*planned, *changed.values()]


def _kept(base: GgufFile, tensor: StoredTensor, quantize: str) -> Planned:
    """A tensor of the base's file; its bytes are copied if they are already in the right format."""
    import gguf
    import torch

    own = kind = gguf.GGMLQuantizationType(tensor.kind)
    if quantize not in (AS_BASE, AT_LEAST_8):
        kind = tensor_format(tensor.name, tensor.shape, quantize)

    def make() -> np.ndarray[Any, Any]:
        if own == kind:
            return base.bytes_of(tensor)
        return encode(numpy_float32(read_tensor(base, tensor, torch.float32)), kind)

    return Planned(tensor.name, tensor.shape, kind, make)
