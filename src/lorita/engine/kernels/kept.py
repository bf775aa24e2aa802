"""Memory for one large result after another, kept between calls."""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor


class Kept(threading.local):
    """A thread's buffer, which grows to the largest result that was asked for.

    Such results are larger than what the C allocator keeps (``allocator.py``): mapped anew each
    time, zeroing them would take a tenth of a product's time. Only one is in use at a time.
    """

    buffer: Tensor = torch.empty(0, dtype=torch.uint8)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor, which is overwritten by the next one."""
        count = math.prod(shape) * dtype.itemsize
        if self.buffer.numel() < count:
            self.buffer = torch.empty(count, dtype=torch.uint8)
        return self.buffer[:count].view(dtype).view(shape)
