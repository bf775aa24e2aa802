"""How sure a difference of losses is: the bootstrap over rows."""

from __future__ import annotations

from dataclasses import dataclass

from lorita.evaluation.row_losses import HeldOutLoss

DRAWS = 2000


@dataclass(frozen=True)
class Change:
    """Loss of the tuned model minus loss of the base, nats per token; negative is better.

    ``low`` and ``high`` are the ends of the 95 % interval.
    """

    base: float
    tuned: float
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.tuned - self.base

    @property
    def sign(self) -> int:
        """-1 where the loss fell, 1 where it rose, 0 where chance could explain the change."""
        return -1 if self.high < 0 else 1 if self.low > 0 else 0


def change_of(base: HeldOutLoss, tuned: HeldOutLoss) -> Change:
    """The change on the same rows, and its interval.

    Rows are drawn again with replacement, each with its losses under both models (Efron, 1979), by
    a fixed seed: tokens of one row stand or fall together, so tokens are not what is drawn.
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
