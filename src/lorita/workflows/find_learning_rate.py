"""Which learning rate to try: the rate is raised step by step until training gets worse.

This is the learning-rate range test of Smith, "Cyclical Learning Rates for Training Neural
Networks" (2017), with one change: each step's loss is compared with the base's loss on the same
rows, so that an easy batch is not mistaken for progress. To choose between rates that are close to
each other, use a sweep.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.data.batches import iterate_steps
from lorita.data.examples import token_lengths
from lorita.evaluation.scores import score_rows
from lorita.runs.loaded_base import load_base
from lorita.runs.output_folder import check_apart
from lorita.runs.prepare import prepare
from lorita.runs.run_model import adapter_on
from lorita.runs.training_job import TrainingJob
from lorita.storage.files import write_atomic
from lorita.storage.manifest import SWEEP, claim
from lorita.storage.run_folder import check_sweep_dir, open_sweep_dir
from lorita.training.events import Event, PhaseStarted, StepDone, TrainingEnded, TrainingStarted
from lorita.training.optimizer import make_rising_schedule
from lorita.training.step import apply, clip, fitting_gradients

if TYPE_CHECKING:
    from lorita.data.examples import Example
    from lorita.settings.schema import RunSettings

RATE_FILE = "find_lr.json"
LOWEST, HIGHEST = 1e-5, 1.0
STEPS = 40
"""Eight steps for each factor of ten."""
SMOOTHING = 0.6
WORSE = 0.5
"""The test ends once the gain is this far below the best so far (nats per token)."""
SAFETY = 4.0
"""The proposal is this many times below the rate of the best gain: a run stays near its rate for
many steps, the test for one. A rule of thumb."""


@dataclass(frozen=True)
class RateStep:
    """``gain`` is how much lower the loss is than the base's on the same rows, smoothed."""

    rate: float
    gain: float


@dataclass(frozen=True)
class RateTest:
    """The steps of the test and the proposed rate; None if no rate gained anything."""

    steps: tuple[RateStep, ...]
    proposed: float | None

    def as_dict(self) -> dict[str, Any]:
        """The steps and the proposed rate, ready for JSON."""
        return asdict(self)

    def sentence(self) -> str:
        """The proposed flag, or that no rate helped."""
        if self.proposed is None:
            return "No rate lowered the loss, so none is proposed."
        return f"Proposed: --learning-rate {self.proposed:.1e}"


def find_rate(steps: Sequence[RateStep]) -> float | None:
    """The proposed rate: that of the best gain, divided by ``SAFETY``."""
    best = max(steps, key=lambda step: step.gain, default=None)
    if best is None or best.gain <= 0:
        return None
    return float(f"{best.rate / SAFETY:.1e}")


def rate_test_events(settings: RunSettings, folder: Path) -> Generator[Event, None, RateTest]:
    """The test as events. It creates no run, only ``find_lr.json`` in ``folder``."""
    check_apart(settings, folder)
    check_sweep_dir(folder)
    yield PhaseStarted("Reading the rows")
    prepared = prepare(settings, writes=False)
    yield PhaseStarted(f"Loading {settings.model}")
    base = load_base(settings, prepared)
    rows = prepared.data.train
    yield TrainingStarted(0, STEPS, len(rows), 0, sum(token_lengths(rows)))
    started, tokens = time.perf_counter(), 0
    seen: list[RateStep] = []
    with adapter_on(base, settings, prepared) as attached:
        for event in _raise_rate(TrainingJob(settings, prepared, attached), seen):
            tokens += event.tokens if isinstance(event, StepDone) else 0
            yield event
    yield TrainingEnded(len(seen), time.perf_counter() - started, tokens)
    result = RateTest(tuple(seen), find_rate(seen))
    with open_sweep_dir(folder):
        claim(folder, [RATE_FILE], kind=SWEEP)
        write_atomic(folder / RATE_FILE, json.dumps(result.as_dict(), indent=2) + "\n")
    return result


def _raise_rate(job: TrainingJob, seen: list[RateStep]) -> Generator[Event, None, None]:
    """The training steps of a run at a rising rate, until the loss is much worse."""
    pace, accelerator = job.pace, job.attached.base.accelerator
    rising = make_rising_schedule(job.trainee.optimizer, LOWEST, HIGHEST, STEPS)
    trainee = replace(job.trainee, schedule=rising, token_budget=pace.token_budget)
    steps = iterate_steps(
        job.prepared.data.train,
        rows_per_step=pace.rows_per_step,
        seed=pace.seed,
        windows=pace.windows,
    )
    taken = list(islice(steps, STEPS + 1))
    yield (phase := PhaseStarted("Scoring rows with the base", unit="rows"))
    base = _base_losses(job, taken, phase)
    trainee.model.train()
    gain, best = 0.0, 0.0
    for number, rows in enumerate(taken):
        began = time.perf_counter()
        loss = yield from fitting_gradients(
            number + 1, trainee, rows, job.attached.loss_sum, accelerator
        )
        assert loss is not None  # nobody asked it to stop
        now = (sum(base[row.row] for row in rows) / _targets(rows)) - loss
        if not math.isfinite(now) or now < best - WORSE:
            return
        rate = rising.get_last_lr()[0]
        if number:  # what this loss shows is what the rate before it did
            gain = SMOOTHING * gain + (1 - SMOOTHING) * now
            seen.append(RateStep(rate * (LOWEST / HIGHEST) ** (1 / STEPS), gain))
            best = max(best, gain)
        grad_norm = clip(trainee, pace.max_grad_norm)
        apply(trainee)
        tokens = sum(len(row.input_ids) for row in rows)
        seconds = time.perf_counter() - began
        yield StepDone(min(number + 1, STEPS), 0.0, loss, grad_norm, rate, tokens, seconds)


def _base_losses(
    job: TrainingJob, steps: Sequence[Sequence[Example]], phase: PhaseStarted
) -> dict[int, float]:
    """The summed loss of each row under the base, by row number: lora_B is still zero."""
    unique = list({row.row: row for rows in steps for row in rows}.values())
    model, device = job.attached.base.model, job.attached.base.accelerator.device
    losses = score_rows(model, unique, device, advance=phase.advance).rows()
    return {row.row: loss for row, loss in zip(unique, losses.sums, strict=True)}


def _targets(rows: Sequence[Example]) -> int:
    return sum(row.num_targets for row in rows)
