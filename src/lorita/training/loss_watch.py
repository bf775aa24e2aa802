"""Judges losses as they come: stops a run that has diverged, and warns where a person would.

Each warning is given once. Everything the watch remembers (``Seen``) is part of a checkpoint, so a
resumed run decides and warns exactly as an uninterrupted one.
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
"""A run has diverged after this many steps in a row that are worse than guessing."""
WORSE, WORSE_STEPS, ENOUGH_ROWS = 2.0, 10, 4
"""It has also diverged after ``WORSE_STEPS`` steps in a row whose loss is ``WORSE`` nats above that
of the first step. Steps of fewer than ``ENOUGH_ROWS`` rows do not count: their loss says more about
the rows than about the model."""


def window_of(steps_per_epoch: int) -> int:
    """How many steps to average a loss over: at least 5, at most 50.

    Where epochs are short these are whole epochs, so that averages of the same rows are compared.
    """
    return steps_per_epoch * math.ceil(5 / steps_per_epoch) if steps_per_epoch <= 50 else 50


@dataclass
class Seen:
    """What the watch remembers, and a checkpoint keeps."""

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
    evaluation_due: bool = False
    """The evaluation after the last step was not finished."""


@dataclass
class Watch:
    """The limits of a run, and what was seen of it so far.

    ``guessing`` is the loss of a model that knows nothing: ln(vocabulary size), in nats.
    ``window`` is the number of steps to average a loss over (``window_of``). Up to
    ``max_skipped_steps`` steps in a row may be skipped. ``patience`` is the number of evaluations
    without improvement after which training stops (None: never). ``keep_best`` says that the best
    checkpoint will be used in the end.
    """

    guessing: float = math.inf
    window: int = 10
    warmup_steps: int = 0
    max_skipped_steps: int = 3
    patience: int | None = None
    keep_best: bool = False
    seen: Seen = field(default_factory=Seen)
    good: dict[str, torch.Tensor] = field(default_factory=dict)
    """The last weights that produced a sane loss, by parameter name."""

    def step(
        self, step: int, loss: float, rate: float, rows: Sequence[Example], trainee: Trainee
    ) -> list[Note]:
        """Judge the finite loss of a step whose update has not been applied yet.

        If the loss is sane, the weights that produced it are kept. Returns warnings. Raises
        ``RunFailed`` if the run has diverged.
        """
        seen = self.seen
        seen.skipped_in_a_row = 0
        if seen.first_loss is None:
            seen.first_loss = loss
        # Random weights start out worse than guessing: only count what is clearly worse than that.
        guessing = loss > max(self.guessing + 0.5, seen.first_loss + 1.0)
        worse = loss > seen.first_loss + WORSE
        seen.guessing_in_a_row = seen.guessing_in_a_row + 1 if guessing else 0
        if len(rows) >= ENOUGH_ROWS:
            seen.worse_in_a_row = seen.worse_in_a_row + 1 if worse else 0
        if seen.guessing_in_a_row >= GUESSING_STEPS or seen.worse_in_a_row >= WORSE_STEPS:
            raise RunFailed(
                f"step {step}: the run has diverged: the loss is {loss:.2f}, up from "
                f"{seen.first_loss:.2f} at the first step (random guessing: {self.guessing:.2f})",
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
        """Count a step that was skipped; ``RunFailed`` if there are too many in a row."""
        self.seen.skipped += 1
        self.seen.skipped_in_a_row += 1
        if self.seen.skipped_in_a_row <= self.max_skipped_steps:
            return
        what = "loss" if not math.isfinite(loss) else "gradient"
        raise RunFailed(
            f"step {step}: the {what} is not finite (loss {loss}, gradient norm {norm}); "
            f"{self.seen.skipped_in_a_row} steps in a row were skipped",
            hint=self._causes(rate, rows),
        )

    def evaluated(self, step: int, loss: float) -> list[Note]:
        """Record a held-out loss; if it is the lowest so far, ``best`` is this step."""
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
            f"step {step}: the held-out loss is rising (best {seen.best_loss:.3f} at step "
            f"{seen.best_step}, now {loss:.3f}) while the training loss is falling "
            f"({seen.best_training_loss:.3f} then, {training:.3f} now): the model is memorising "
            "its training rows. Train less (--num-train-epochs, --learning-rate), add rows, or "
            "keep the best checkpoint: --load-best-model-at-end --early-stopping-patience 2",
        )

    @property
    def best(self) -> tuple[int, float]:
        """The best evaluation so far: (step, held-out loss); step 0 before the first one."""
        return self.seen.best_step, self.seen.best_loss or 0.0

    @property
    def last_loss(self) -> float:
        """The training loss of the last step; NaN before the first one."""
        return self.seen.recent[-1] if self.seen.recent else math.nan

    @property
    def out_of_patience(self) -> bool:
        """Whether training should stop because the held-out loss no longer improves."""
        return self.patience is not None and self.seen.evaluations_since_best >= self.patience

    def restore_good(self, trainee: Trainee) -> int:
        """Put the last good weights back; returns the step that produced them."""
        for name, tensor in self.good.items():
            trainee.masters.parameters[name].data.copy_(tensor)
        trainee.masters.give_weights()
        return self.seen.good_step

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, as plain values."""
        return asdict(self.seen)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
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
            f"step {step}: the loss jumped to {loss:.2f} from about {mean:.2f}. If it stays high, "
            "lower --learning-rate or add --warmup-steps",
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
            f"step {step}: the loss is not falling ({first:.3f} over the first {self.window} "
            f"steps, {last:.3f} over the last). Try a higher --learning-rate if it is flat, a "
            "lower one if it is rising, or more --target-modules",
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
            f"something unusual in {numbers} (inspect the data with lorita preview)",
        ]
        if self.seen.steps == 0:  # no update yet, so the learning rate cannot be the cause
            causes = causes[1:]
        return f"Likely causes, most likely first: {'; '.join(causes)}."
