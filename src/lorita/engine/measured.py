"""Which of two ways to compute a product is faster on this machine, even while it is busy.

The two sides alternate, and of each the fastest runs count: other programs only ever add to a time.
Independent shares of the runs are compared with each other, so that it shows when a machine is too
busy to tell.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

from lorita.engine.kernels.int8 import Int8Weight

SHARES = 4
"""Independent sets of runs."""
LEAST = 5
"""Runs of each side in each share, unless each takes long."""
NARROW = 1.15
"""Shares that agree within this factor need no further runs."""
SECONDS = 0.8
"""A measurement ends after this long, or after two runs of each side if those take longer."""

Way = Literal["float32", "bf16", "int8", "onednn"]


@dataclass(frozen=True)
class Ratio:
    """How many times as fast the other side is, by the most and the least favourable share."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """The geometric mean of both."""
        return float((self.low * self.high) ** 0.5)

    @property
    def is_wide(self) -> bool:
        """Whether the shares disagree: the machine is busy."""
        return self.high > NARROW * self.low

    def at_least(self, worth: float) -> bool | None:
        """Whether the ratio is ``worth`` or more; None if this machine is too busy to tell."""
        if not self.is_wide:
            return self.middle >= worth
        # Where shares disagree, none of them may have had an undisturbed run.
        return None if self.low < 2 * worth and self.high > worth / 2 else self.low >= worth

    def __str__(self) -> str:
        if self.high < 0.05:
            return "less than 0.1"
        return f"{self.low:.1f} to {self.high:.1f}" if self.is_wide else f"{self.middle:.1f}"


def compare(
    plain: Callable[[], object],
    other: Callable[[], object],
    clock: Callable[[], float] = time.perf_counter,
) -> Ratio:
    """How many times as fast as ``plain`` the ``other`` is; ``clock`` tells seconds."""
    fastest = [[float("inf")] * 2 for _ in range(SHARES)]
    began, runs = clock(), 0
    while True:
        for side, run in enumerate((plain, other)):
            start = clock()
            run()
            # Taken in turn: a busy moment is shared by all of them.
            share = fastest[runs % SHARES]
            share[side] = min(share[side], clock() - start)
        runs += 1
        ratios = [slow / max(fast, 1e-9) for slow, fast in fastest[:runs]]
        found = Ratio(min(ratios), max(ratios))
        enough = runs >= SHARES * LEAST and found.high <= NARROW * found.low
        # Runs this long have seen as much of other programs as many short ones.
        if enough or (runs >= 2 and clock() - began > SECONDS):
            return found


@functools.cache
def measured_ratio(what: Way, than: Way = "float32") -> Ratio:
    """How many times as fast a product ``what`` is as one ``than``.

    ``onednn`` is float32 through oneDNN; ``int8`` rounds its input, as in training. Measured once
    per process, in some 50 ms on an idle machine.
    """
    dtype = torch.bfloat16 if "bf16" in (what, than) else torch.float32
    return compare(_product(than, dtype), _product(what, dtype))


def _product(way: Way, dtype: torch.dtype) -> Callable[[], object]:
    """A product of a size usual in training; 8-bit integers are made from numbers in ``dtype``."""
    x, w = torch.randn(256, 512), torch.randn(1024, 512)
    if way in ("bf16", "int8"):
        x, w = x.to(dtype), w.to(dtype)
    if way == "int8":
        rounded = Int8Weight.of(w)
        return lambda: rounded.forward(x)
    if way == "onednn":
        return lambda: torch.ops.mkldnn._linear_pointwise(x, w, None, "none", [], "")
    return lambda: functional.linear(x, w)
