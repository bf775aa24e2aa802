"""Which learning rate to try: the rate is raised step by step until training gets worse.

The learning-rate range test of Smith, "Cyclical Learning Rates for Training Neural Networks"
(2017), with one change: each step's loss is compared with the base's on the same rows, so that an
easy batch is not taken for progress. Not for choosing between rates that are near each other: that
is what a sweep is for.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lorita.data.batches import iterate_steps, micro_batches
from lorita.data.examples import Example, token_lengths
from lorita.evaluation.scores import score_rows
from lorita.runs.prepare import prepare
from lorita.runs.run_model import Session
from lorita.runs.training_job import Job
from lorita.settings.schema import RunSettings
from lorita.storage.files import write_atomic
from lorita.training.events import Event, StepDone, TrainingEnded, TrainingStarted
from lorita.training.step import clip

RATE_FILE = "find_lr.json"
LOWEST, HIGHEST = 1e-5, 1.0
STEPS = 40
"""Eight steps for each factor of ten."""
SMOOTHING = 0.6
WORSE = 0.5
"""Nats per token below the best so far: the test is over."""
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
    """What was seen, and the rate that is proposed; None where nothing was gained."""

    steps: tuple[RateStep, ...]
    proposed: float | None

    def sentence(self) -> str:
        if self.proposed is None:
            return "No rate brought the loss down, so none is proposed."
        return f"Proposed: --learning-rate {self.proposed:.1e}"


def find_rate(steps: Sequence[RateStep]) -> float | None:
    """The proposal for what was seen: ``SAFETY`` times below the rate of the best gain."""
    best = max(steps, key=lambda step: step.gain, default=None)
    if best is None or best.gain <= 0:
        return None
    return float(f"{best.rate / SAFETY:.1e}")


def rate_test_events(settings: RunSettings, folder: Path) -> Generator[Event, None, RateTest]:
    """The test as events. It makes no run; ``find_lr.json`` in ``folder`` is all it leaves."""
    prepared = prepare(settings.model_copy(update={"output_dir": folder}))
    session = Session(settings, prepared)
    session.attach()
    job = session.make_job()
    seen: list[RateStep] = []
    rows = prepared.data.train
    yield TrainingStarted(0, STEPS, len(rows), 0, sum(token_lengths(rows)))
    started, tokens = time.perf_counter(), 0
    for step in _raise(session, job, seen):
        tokens += step.tokens
        yield step
    yield TrainingEnded(len(seen), time.perf_counter() - started, tokens)
    result = RateTest(tuple(seen), find_rate(seen))
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / RATE_FILE, json.dumps(asdict(result), indent=2) + "\n")
    return result


def _raise(session: Session, job: Job, seen: list[RateStep]) -> Generator[StepDone, None, None]:
    pace, trainee = job.pace, job.trainee
    examples = session.prepared.data.train
    steps = iterate_steps(
        examples, rows_per_step=pace.rows_per_step, seed=pace.seed, windows=pace.windows
    )
    taken = [next(steps) for _ in range(STEPS + 1)]
    unique = list({row.row: row for rows in taken for row in rows}.values())
    # B is zero: this is the base.
    losses = score_rows(session.model, unique, session.accelerator.device).rows()
    base = {row.row: loss for row, loss in zip(unique, losses.sums, strict=True)}
    trainee.model.train()
    gain, best = 0.0, 0.0
    for number, rows in enumerate(taken):
        began = time.perf_counter()
        rate = LOWEST * (HIGHEST / LOWEST) ** (number / STEPS)
        loss = _gradients(job, rows)
        now = (sum(base[row.row] for row in rows) / _targets(rows)) - loss
        if not math.isfinite(now) or now < best - WORSE:
            return
        if number:  # what this loss shows is what the rate before it did
            gain = SMOOTHING * gain + (1 - SMOOTHING) * now
            seen.append(RateStep(rate * (LOWEST / HIGHEST) ** (1 / STEPS), gain))
            best = max(best, gain)
        _apply(job, rate)
        tokens = sum(len(row.input_ids) for row in rows)
        seconds = time.perf_counter() - began
        yield StepDone(min(number + 1, STEPS), 0.0, loss, 0.0, rate, tokens, seconds)


def _targets(rows: Sequence[Example]) -> int:
    return sum(row.num_targets for row in rows)


def _gradients(job: Job, rows: Sequence[Example]) -> float:
    total = 0.0
    for batch in micro_batches(rows, job.pace.token_budget):
        loss = job.loss_sum(batch) / _targets(rows)
        job.accelerator.backward(loss)
        job.trainee.masters.take_gradients()
        total += float(loss.detach())
    return total


def _apply(job: Job, rate: float) -> None:
    clip(job.trainee, job.pace.max_grad_norm, job.accelerator)
    for group in job.trainee.optimizer.param_groups:
        group["lr"] = rate
    job.trainee.optimizer.step()
    job.trainee.masters.give_weights()
    job.trainee.forget_gradients()
