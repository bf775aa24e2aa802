"""The weights of a GGUF file, read straight into the dtype that is wanted, tensor by tensor.

The file is mapped; blocks are expanded by a compiled kernel (``engine.kernels.expand``), or by
gguf-py a slice at a time where there is none, and the pages that were read are given back. Nothing
exists in float32 as a whole. Rows in another order are moved while they are still blocks.
Families that ``gguf_layout`` does not know are read with transformers' own rules
(``gguf_other_weights``).
"""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lorita.errors import ModelError
from lorita.models.gguf_files import GgufFile, StoredTensor, open_mapped
from lorita.models.gguf_layout import LAYOUTS, Layout, TensorNames

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

SLICE = 2**22
"""Numbers that gguf-py expands at a time."""
_FLOATS = {0: "float32", 1: "float16", 30: "bfloat16"}
"""gguf's kinds that torch has a dtype for."""
DERIVED = ("rope_freqs", "rope_factors_long", "rope_factors_short")
"""Tensors that repeat what the configuration says, if it says it."""


class Loaded(NamedTuple):
    """A model, the names of its weights that the file lacks, and of the tensors it has no use for.
    """

    model: PreTrainedModel
    missing: list[str]
    unused: list[str]


def load_weights(path: Path, config: PretrainedConfig, dtype: torch.dtype) -> Loaded:
    """The model in ``dtype``; ``ModelError`` if the file is damaged or does not fit its header."""
    file = open_mapped(path)
    try:
        layout = LAYOUTS.get(config.model_type)
        if layout is None:
            from lorita.models.gguf_other_weights import load_other

            return load_other(file, config, dtype)
        return _filled(file, layout, config, dtype)
    finally:
        file.data.close()


def _filled(
    file: GgufFile, layout: Layout, config: PretrainedConfig, dtype: torch.dtype
) -> Loaded:
    """A model of a family whose layout is known."""
    empty = model_shell(config)
    shapes = {name: tuple(weight.shape) for name, weight in empty.state_dict().items()}
    state = {}
    taken = set()
    for name, stored in _pairs(shapes, TensorNames(layout, config), file):
        state[name] = _as_in_model(file, stored, layout, name, shapes[name], config, dtype)
        taken.add(stored.name)
    return filled_model(type(empty), config, state, dtype, unused_in(file, taken))


def model_shell(config: PretrainedConfig) -> PreTrainedModel:
    """The model's modules without memory for their weights."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)  # type: ignore[no-any-return]


def filled_model(
    kind: Any,
    config: PretrainedConfig,
    state: dict[str, torch.Tensor],
    dtype: torch.dtype,
    unused: list[str],
) -> Loaded:
    """The model made by transformers, as from any checkpoint; it keeps the tensors of ``state``."""
    model, report = kind.from_pretrained(
        None, config=config, state_dict=state, dtype=dtype, output_loading_info=True
    )
    return Loaded(model, sorted(report["missing_keys"]), unused)


def unused_in(file: GgufFile, taken: set[str]) -> list[str]:
    """The tensors of the file that were not taken."""
    left = sorted(name for name in file.tensors if name not in taken)
    return [name for name in left if not name.startswith(DERIVED)]


def _pairs(
    weights: Iterable[str], names: TensorNames, file: GgufFile
) -> Iterator[tuple[str, StoredTensor]]:
    """Each weight of the model that the file has, and where it is there."""
    for name in weights:
        stored = file.tensors.get(names.of(name) or "")
        if stored is not None:
            yield name, stored


def _as_in_model(
    file: GgufFile,
    stored: StoredTensor,
    layout: Layout,
    name: str,
    shape: tuple[int, ...],
    config: Any,
    dtype: torch.dtype,
) -> torch.Tensor:
    """A weight in the order of the model; the inverse of ``Layout.to_file``."""
    import torch

    module, _, leaf = name.rpartition(".")
    offset = layout.norm_offset if layout.norm_offset and name.endswith("norm.weight") else 0.0
    turned = leaf == "weight" and layout.turns(module)
    order = layout.row_order(module, config, stored.shape[0])
    if order is not None:
        order = torch.argsort(order)
    if offset:
        tensor = (read_tensor(file, stored, torch.float32, order) - offset).to(dtype)
    else:
        tensor = read_tensor(file, stored, dtype, order)
    if turned:
        tensor = tensor.t().contiguous()
    if tuple(tensor.shape) != shape:
        raise ModelError(
            f"{file.path}: {stored.name} has the shape {list(tensor.shape)}, but the model's "
            f"configuration says {list(shape)}",
            hint="The file is damaged, or was made by a program that writes it differently.",
        )
    return tensor


def read_tensor(
    file: GgufFile, stored: StoredTensor, dtype: torch.dtype, order: torch.Tensor | None = None
) -> torch.Tensor:
    """One tensor in ``dtype``, its rows in ``order`` if that is given; in memory of its own."""
    import torch

    if stored.size == 0:
        return torch.empty(stored.shape, dtype=dtype)
    view = memoryview(file.data)[stored.start : stored.start + stored.size]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it is only read
        raw = torch.frombuffer(view, dtype=torch.uint8)
    try:
        if order is not None:
            raw = raw.view(stored.shape[0], -1)[order].reshape(-1)
        if stored.kind in _FLOATS:
            own = raw.view(getattr(torch, _FLOATS[stored.kind]))
            return own.to(dtype, copy=True).view(stored.shape)
        out = torch.empty(stored.shape, dtype=dtype)
        _expand(raw, stored.kind, out)
        return out
    finally:
        del raw
        _give_back(file.data, stored)


def _expand(raw: torch.Tensor, kind: int, out: torch.Tensor) -> None:
    """Expand blocks into ``out``: by the kernel, else by gguf-py a slice at a time."""
    import torch

    from lorita.engine.kernels.expand import BLOCKS, can_expand, expand

    if can_expand(kind, out.dtype):
        expand(raw, kind, out)
        return
    flat = out.view(-1)
    numbers, size = BLOCKS.get(kind) or _block_of(kind)
    step = max(SLICE // numbers, 1)
    part = torch.empty(step * numbers) if can_expand(kind, torch.float32) else None
    for first in range(0, raw.numel() // size, step):
        blocks = raw[first * size : (first + step) * size]
        place = flat[first * numbers : (first + step) * numbers]
        if part is not None:
            expand(blocks, kind, part[: place.numel()])
            place.copy_(part[: place.numel()])
        else:
            place.copy_(_by_gguf(blocks, kind, size))


def _block_of(kind: int) -> tuple[int, int]:
    """Numbers and bytes of a block."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    return GGML_QUANT_SIZES[GGMLQuantizationType(kind)]  # type: ignore[no-any-return]


def _by_gguf(blocks: torch.Tensor, kind: int, size: int) -> torch.Tensor:
    """Blocks as float32; ``ModelError`` for a kind that gguf-py cannot expand."""
    import torch
    from gguf import GGMLQuantizationType, quants

    name = GGMLQuantizationType(kind)
    try:
        array = quants.dequantize(blocks.numpy().reshape(-1, size), name)
    except NotImplementedError:
        raise ModelError(f"tensors in the number format {name.name} cannot be read") from None
    return torch.from_numpy(array).view(-1)


def _give_back(data: mmap.mmap, stored: StoredTensor) -> None:
    """Tell the system that these pages of the file will not be read again."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    first = -(-stored.start // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (stored.start + stored.size) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > first:
        data.madvise(mmap.MADV_DONTNEED, first, end - first)
