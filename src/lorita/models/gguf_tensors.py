"""One tensor of a GGUF file, read straight into the dtype that is wanted.

The file is mapped; blocks are expanded by a compiled kernel (``engine.kernels.expand``), or by
gguf-py a slice at a time where there is none, and the pages that were read are given back. Nothing
exists in float32 as a whole. Rows in another order are moved while they are still blocks.
"""

from __future__ import annotations

import mmap
import warnings
from typing import TYPE_CHECKING

from lorita.errors import ModelError

if TYPE_CHECKING:
    import torch

    from lorita.models.gguf_files import GgufFile, StoredTensor

SLICE = 2**22
"""Numbers that gguf-py expands at a time."""
_FLOATS = {0: "float32", 1: "float16", 30: "bfloat16"}
"""gguf's kinds that torch has a dtype for."""


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
