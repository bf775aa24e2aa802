"""Looks at losses as they come: stops what cannot end well, and says what a person would see.

Everything is said once. All that it remembers (``Seen``) is kept in the checkpoints, so that a
resumed run decides and speaks as one that was never stopped.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lorita.data.examples import Example
from lorita.data.origin import rows_text
from lorita.errors import RunFailed
from lorita.training.events import Note

if TYPE_CHECKING:
    import torch

    from lorita.training.step import Trainee

GUESSING_STEPS = 3
"""So many steps in a row worse than guessing are a divergence."""
WORSE, WORSE_STEPS, ENOUGH_ROWS = 2.0, 10, 4
"""So are so many steps whose loss is this much (nats) above the first one's; a loss over fewer rows
says more about the rows than about the model."""


def window_of(steps_per_epoch: int) -> int:
    """Ten steps or so: whole epochs where they are short, for then the same rows are compared."""
    return steps_per_epoch * math.ceil(5 / steps_per_epoch) if steps_per_epoch <= 50 else 50


@dataclass
class Seen:
    """What a checkpoint keeps of the watch."""

    steps: int = 0
    first_loss: float | None = None
    recent: list[float] = field(default_factory=list)
    skipped: int = 0
    skipped_in_a_row: int = 0
    guessing_in_a_row: int = 0
    worse_in_a_row: int = 0
    good_step: int = 0
    best_loss: float | None = None
    best_step: int = 0
    best_training_loss: float = 0.0
    evaluations_since_best: int = 0
    said: list[str] = field(default_factory=list)


@dataclass
class Watch:
    """``guessing`` is the loss of a model that knows nothing: ln(vocabulary), in nats.

    ``window`` is the number of steps whose losses are taken together (``window_of``).
    ``max_skipped_steps`` in a row may be skipped. ``patience`` is the number of evaluations
    without a better one after which training stops (None: never).
    """

    guessing: float = math.inf
    window: int = 10
    warmup_steps: int = 0
    max_skipped_steps: int = 3
    patience: int | None = None
    keep_best: bool = False
    seen: Seen = field(default_factory=Seen)
    good: dict[str, torch.Tensor] = field(default_factory=dict)
    """The last weights that gave a sane loss, by the names of their parameters."""

    def step(
        self, step: int, loss: float, rate: float, rows: Sequence[Example], trainee: Trainee
    ) -> list[Note]:
        """Take in the finite loss that the weights before this step's update gave.

        Returns what there is to say; ``RunFailed`` when the run has diverged.
        """
        seen = self.seen
        seen.skipped_in_a_row = 0
        if seen.first_loss is None:
            seen.first_loss = loss
        # Random weights start worse than guessing: they have to become much worse still.
        guessing = loss > max(self.guessing + 0.5, seen.first_loss + 1.0)
        worse = loss > seen.first_loss + WORSE
        seen.guessing_in_a_row = seen.guessing_in_a_row + 1 if guessing else 0
        if len(rows) >= ENOUGH_ROWS:
            seen.worse_in_a_row = seen.worse_in_a_row + 1 if worse else 0
        if seen.guessing_in_a_row >= GUESSING_STEPS or seen.worse_in_a_row >= WORSE_STEPS:
            raise RunFailed(
                f"step {step}: the run has diverged: the loss is {loss:.2f}, it was "
                f"{seen.first_loss:.2f} at the first step, and a model that knows nothing has "
                f"{self.guessing:.2f}",
                hint=self._causes(rate, rows),
            )
        if not (guessing or worse):
            self._keep(step, trainee)
        remarks = [*self._spike(step, loss)]
        seen.steps += 1
        seen.recent = [*seen.recent, loss][-2 * self.window :]
        return [*remarks, *self._standstill(step)]

    def skipped(
        self, step: int, loss: float, norm: float, rate: float, rows: Sequence[Example]
    ) -> None:
        """Count a step that was not applied; ``RunFailed`` when there are too many in a row."""
        self.seen.skipped += 1
        self.seen.skipped_in_a_row += 1
        if self.seen.skipped_in_a_row <= self.max_skipped_steps:
            return
        what = "loss" if not math.isfinite(loss) else "gradient"
        raise RunFailed(
            f"step {step}: the {what} is not finite (loss {loss}, gradient norm {norm}), "
            f"{self.seen.skipped_in_a_row} steps in a row; none of these was applied",
            hint=self._causes(rate, rows),
        )

    def evaluated(self, step: int, loss: float) -> list[Note]:
        """Take a held-out loss in; ``best`` is this step if no other was as good."""
        seen = self.seen
        training = statistics.fmean(seen.recent[-self.window :] or [0.0])
        if math.isfinite(loss) and (seen.best_loss is None or loss < seen.best_loss):
            seen.best_loss, seen.best_step, seen.best_training_loss = loss, step, training
            seen.evaluations_since_best = 0
            return []
        seen.evaluations_since_best += 1
        if seen.best_loss is None or loss < seen.best_loss + 0.02:
            return []
        if training >= seen.best_training_loss:
            return []
        return self._once(
            "overfitting",
            f"step {step}: the held-out loss rises (best {seen.best_loss:.3f} at step "
            f"{seen.best_step}, now {loss:.3f}) while the training loss falls "
            f"({seen.best_training_loss:.3f} then, {training:.3f} now): the model learns its rows "
            "by heart. Train less (--num-train-epochs, --learning-rate), give it more rows, or "
            "keep the best: --load-best-model-at-end --early-stopping-patience 2",
        )

    @property
    def best(self) -> tuple[int, float]:
        """The best evaluation so far: (its step, held-out loss); step 0 where there is none."""
        return self.seen.best_step, self.seen.best_loss or 0.0

    @property
    def out_of_patience(self) -> bool:
        return self.patience is not None and self.seen.evaluations_since_best >= self.patience

    def restore_good(self, trainee: Trainee) -> int:
        """Put the last good weights back; return the number of the step that made them."""
        for name, tensor in self.good.items():
            trainee.masters.parameters[name].data.copy_(tensor)
        trainee.masters.give_weights()
        return self.seen.good_step

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self.seen)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = Seen(**state)

    def _keep(self, step: int, trainee: Trainee) -> None:
        self.seen.good_step = step - 1
        for name, parameter in trainee.masters.parameters.items():
            if name in self.good:
                self.good[name].copy_(parameter.detach())
            else:
                self.good[name] = parameter.detach().clone()

    def _spike(self, step: int, loss: float) -> list[Note]:
        before = self.seen.recent
        if len(before) < 5:
            return []
        mean, spread = statistics.fmean(before), statistics.stdev(before)
        if loss < mean + max(6 * spread, 1.0):
            return []
        return self._once(
            "spike",
            f"step {step}: the loss jumped to {loss:.2f} from about {mean:.2f}. If it stays "
            "there, use a lower --learning-rate or some --warmup-steps",
        )

    def _standstill(self, step: int) -> list[Note]:
        if self.seen.steps != self.warmup_steps + 2 * self.window:
            return []
        first = statistics.fmean(self.seen.recent[: self.window])
        last = statistics.fmean(self.seen.recent[self.window :])
        if last < 0.995 * first:
            return []
        return self._once(
            "standstill",
            f"step {step}: the loss does not fall ({first:.3f} in the first {self.window} steps, "
            f"{last:.3f} in the last). Try a higher --learning-rate if it stands still and a "
            "lower one if it rises; or more --target-modules",
        )

    def _once(self, key: str, text: str) -> list[Note]:
        if key in self.seen.said:
            return []
        self.seen.said.append(key)
        return [Note(text, is_warning=True)]

    def _causes(self, rate: float, rows: Sequence[Example]) -> str:
        numbers = rows_text(sorted({row.row + 1 for row in rows}), most=16)
        causes = [
            f"the learning rate is too high (it was {rate:.1e})",
            "the number format is too narrow (try --dtype float32)",
            f"something unusual in the data, {numbers} (look with lorita preview)",
        ]
        if self.seen.steps == 0:  # no update was made yet: the learning rate had no part in it
            causes = causes[1:]
        return f"Likely causes, in this order: {'; '.join(causes)}."
