"""How certain a change of the loss is, by a bootstrap over rows, and how certain a share is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lorita.evaluation.row_losses import HeldOutLoss

DRAWS = 2000
"""Bootstrap samples."""
Z = 1.959964
"""Standard deviations of a normal distribution that hold 95 % of it on both sides."""


@dataclass(frozen=True)
class Change:
    """Mean loss of the base and of the tuned model, in nats per token.

    ``low`` and ``high`` bound the 95 % interval of their difference, tuned minus base.
    """

    base: float
    tuned: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """Tuned minus base; negative is better."""
        return self.tuned - self.base

    @property
    def sign(self) -> int:
        """-1 if the loss fell, 1 if it rose, 0 if chance could explain the change."""
        return -1 if self.high < 0 else 1 if self.low > 0 else 0


def change_of(base: HeldOutLoss, tuned: HeldOutLoss) -> Change:
    """The change of the loss on the same rows, and its interval.

    Rows are resampled with replacement, each with its losses under both models (Efron, 1979), using
    a fixed seed. Rows rather than tokens, because the losses of one row's tokens are correlated.
    """
    import torch

    before_R = torch.tensor(base.sums, dtype=torch.float64)
    after_R = torch.tensor(tuned.sums, dtype=torch.float64)
    counts_R = torch.tensor(base.counts, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    drawn_SR = torch.randint(len(counts_R), (DRAWS, len(counts_R)), generator=generator)
    changes_S = (after_R - before_R)[drawn_SR].sum(1) / counts_R[drawn_SR].sum(1)
    low, high = torch.quantile(changes_S, torch.tensor([0.025, 0.975], dtype=torch.float64))
    return Change(base.mean, tuned.mean, float(low), float(high))


def share_bounds(part: int, whole: int) -> tuple[float, float]:
    """The 95 % interval of a share, ``part`` of ``whole`` (Wilson, 1927); 0 to 1 of nothing.

    Unlike the textbook's interval it is right for few cases, and for none or all of them.
    """
    if whole <= 0:
        return 0.0, 1.0
    share = min(max(part / whole, 0.0), 1.0)
    spread = Z**2 / whole
    middle = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * math.sqrt(share * (1 - share) / whole + spread / (4 * whole))
    return max(middle - half, 0.0), min(middle + half, 1.0)
