"""One tensor of a GGUF file, read straight into the dtype that is wanted.

The file is mapped; blocks are expanded by a compiled kernel (``engine.kernels.expand``), or by
gguf-py a slice at a time where there is none, and the pages that were read are given back. Nothing
exists in float32 as a whole. Rows in another order are moved while they are still blocks. A matrix
may also stay quantised: then its blocks are used where they are in the file.
"""

from __future__ import annotations

import mmap
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from lorita.models.gguf_files import GgufFile, StoredTensor


def read_tensor(
    file: GgufFile, stored: StoredTensor, dtype: torch.dtype, order: torch.Tensor | None = None
) -> torch.Tensor:
    """One tensor in ``dtype``, its rows in ``order`` if that is given; in memory of its own."""
    import torch

    from lorita.engine.kernels.expand import expand

    if stored.size == 0:
        return torch.empty(stored.shape, dtype=dtype)
    raw = _mapped(file, stored)
    try:
        if order is not None:
            raw = raw.view(stored.shape[0], -1)[order].reshape(-1)
        out = torch.empty(stored.shape, dtype=dtype)
        expand(raw, stored.kind, out)
        return out
    finally:
        del raw
        _give_back(file.data, stored)


def read_blocks(
    file: GgufFile, stored: StoredTensor, dtype: torch.dtype, order: torch.Tensor | None = None
) -> torch.Tensor:
    """A matrix that stays quantised, and mapped unless its rows come in another ``order``."""
    from lorita.engine.block_tensor import Blocks, BlockTensor

    rows = _mapped(file, stored).view(stored.shape[0], -1)
    if order is not None:
        rows = rows[order]
        _give_back(file.data, stored)
    return BlockTensor(Blocks(rows, stored.kind), dtype)


def _mapped(file: GgufFile, stored: StoredTensor) -> torch.Tensor:
    """The bytes of a tensor, as they are in the file."""
    import torch

    view = memoryview(file.data)[stored.start : stored.start + stored.size]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it is only read
        return torch.frombuffer(view, dtype=torch.uint8)


def _give_back(data: mmap.mmap, stored: StoredTensor) -> None:
    """Tell the system that these pages of the file will not be read again."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    first = -(-stored.start // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (stored.start + stored.size) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > first:
        data.madvise(mmap.MADV_DONTNEED, first, end - first)
