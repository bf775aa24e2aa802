"""How much memory and time a run will take, and what to do if it does not fit.

Times come from steps on the run's own rows: ``lorita plan`` times a few steps that change nothing,
a run its own first ones, so that the forecast costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from lorita.data.batches import iterate_steps, partition, steps_per_epoch
from lorita.data.examples import count_tokens, token_lengths
from lorita.system.counted import counted
from lorita.system.durations import duration
from lorita.system.memory import gigabytes
from lorita.training.events import Forecasted
from lorita.training.step import fitting_gradients

if TYPE_CHECKING:
    from accelerate import Accelerator

    from lorita.data.examples import Example
    from lorita.training.beginnings import Beginnings
    from lorita.training.loop import Pace
    from lorita.training.objective import LossSum
    from lorita.training.step import Trainee

T = TypeVar("T")

PROBE_STEPS = 3
"""The first one warms up: memory is mapped, kernels are chosen."""
PROBE_SECONDS = 20.0
EVALUATION_COST = 0.4
"""A held-out token against a trained one: there is no backward pass."""


@dataclass(frozen=True)
class Work:
    """What a run will compute, counted from its rows.

    ``held_out_tokens`` are those of all evaluations during training; ``epochs`` is how many times
    a row is seen on average. ``computed`` is the fraction of the ``tokens`` that is computed: less
    than all of them if rows share a beginning.
    """

    rows: int
    steps: int
    steps_per_epoch: int
    tokens_per_epoch: int
    tokens: int
    held_out_tokens: int
    most_at_once: int
    longest: int
    epochs: float
    computed: float = 1.0

    def line(self) -> str:
        """Rows, tokens and steps in a sentence."""
        return (
            f"{counted(self.rows, 'row')}, {counted(self.tokens_per_epoch, 'token')} and "
            f"{counted(self.steps_per_epoch, 'step')} per epoch; {counted(self.steps, 'step')} in "
            f"total, up to {counted(self.most_at_once, 'token')} at a time"
        )


def count_work(
    train: Sequence[Example],
    held_out: Sequence[Example],
    pace: Pace,
    shared: Beginnings | None = None,
) -> Work:
    """Count the steps that a run will do, in the order that it does them.

    ``shared`` is what rows begin with in common, if that is computed once.
    """
    lengths = token_lengths(train)
    steps = _first_epoch(lengths, pace)
    whole, rest = divmod(pace.max_steps, len(steps))
    evaluations = (pace.max_steps - 1) // pace.eval_steps if pace.eval_steps else 0
    return Work(
        rows=len(train),
        steps=pace.max_steps,
        steps_per_epoch=len(steps),
        tokens_per_epoch=sum(lengths),
        tokens=whole * sum(lengths) + sum(map(sum, steps[:rest])),
        held_out_tokens=evaluations * count_tokens(held_out),
        most_at_once=max(
            shared.most_at_once(pace.token_budget) if shared else 0,
            *(
                sum(step[i] for i in piece)
                for step in steps[: pace.max_steps]
                for piece in partition(step, pace.token_budget)
            ),
        ),
        longest=max(lengths),
        epochs=whole + sum(map(len, steps[:rest])) / len(lengths),
        computed=shared.computed(pace.token_budget) if shared else 1.0,
    )


def _first_epoch(rows: Sequence[T], pace: Pace) -> list[list[T]]:
    """The rows of each step of the first epoch, as the loop takes them."""
    steps = iterate_steps(
        rows, rows_per_step=pace.rows_per_step, seed=pace.seed, windows=pace.windows
    )
    return list(islice(steps, steps_per_epoch(len(pace.windows or rows), pace.rows_per_step)))


@dataclass(frozen=True)
class Around:
    """What a run takes beside training: seconds before it, and after it to measure the result.

    Of the latter, ``answering`` are seconds; ``scored`` tokens are only read.
    """

    before: float
    answering: float
    scored: int


@dataclass(frozen=True)
class Forecast:
    """Seconds and bytes; ``seconds_per_token`` is None where no step was timed."""

    work: Work
    peak_bytes: int
    free_bytes: int | None
    seconds_per_token: float | None = None
    around: Around | None = None

    @property
    def seconds(self) -> float | None:
        """Total training time, evaluations during training included."""
        if self.seconds_per_token is None:
            return None
        held_out = self._seconds_of_scoring(self.work.held_out_tokens)
        return self.seconds_per_token * self.work.tokens + held_out

    def _seconds_of_scoring(self, tokens: int) -> float:
        """Of scores, every token is computed, even if training shares some."""
        return EVALUATION_COST * tokens * (self.seconds_per_token or 0.0) / self.work.computed

    @property
    def seconds_per_step(self) -> float | None:
        """Mean over all steps; None where no step was timed."""
        if self.seconds_per_token is None:
            return None
        return self.seconds_per_token * self.work.tokens / self.work.steps

    @property
    def seconds_after(self) -> float | None:
        """What it takes to measure the result; None where that is not known."""
        if self.around is None or self.seconds_per_token is None:
            return None
        return self.around.answering + self._seconds_of_scoring(self.around.scored)

    @property
    def seconds_in_all(self) -> float | None:
        """The whole command; None where a part of it is not known."""
        after = self.seconds_after
        if after is None or self.seconds is None or self.around is None:
            return None
        return self.around.before + self.seconds + after

    def memory_line(self) -> str:
        """The expected peak and what is free, in a sentence."""
        free = "" if self.free_bytes is None else f"; another {gigabytes(self.free_bytes)} are free"
        return f"Memory: about {gigabytes(self.peak_bytes)} at its peak{free}"

    def event(self) -> Forecasted:
        """The figures alone, for the log."""
        before = self.around.before if self.around else None
        return Forecasted(
            self.peak_bytes, self.free_bytes, self.seconds, before, self.seconds_after
        )

    def time_line(self) -> str:
        """Time per step and in total, in a sentence."""
        if self.seconds is None or self.seconds_per_step is None:
            return "Time: not measured (--no-probe)"
        per_step = f"Time: about {duration(self.seconds_per_step)} per step"
        in_all, after = self.seconds_in_all, self.seconds_after
        if self.around is None or in_all is None or after is None:
            return f"{per_step}, {duration(self.seconds)} of training in total"
        return (
            f"{per_step}; about {duration(in_all)} in all: {duration(self.around.before)} until "
            f"training starts, {duration(self.seconds)} of training, {duration(after)} to measure "
            "the result"
        )

    def lines(self) -> list[str]:
        """Both sentences: memory, then time."""
        return [self.memory_line(), self.time_line()]


def proposals(longest: int, per_token: int, free_bytes: int | None, *, narrow: bool) -> str | None:
    """Remedies if the longest row alone may not fit in memory; None if it fits.

    ``narrow``: the weights are already in a 16-bit format.
    """
    if free_bytes is None or longest * per_token <= free_bytes:
        return None
    fits = max(free_bytes // per_token, 1)
    ways = [f"--max-length {fits}", "--gradient-checkpointing"]
    if not narrow:
        ways.append("--dtype bfloat16")
    return (
        f"the longest row ({longest:,} tokens) may need {gigabytes(longest * per_token)} of memory "
        f"and {gigabytes(free_bytes)} are free; if it does not fit: {', or '.join(ways)}"
    )


def from_timed(timed: Iterable[tuple[int, float]]) -> float | None:
    """Seconds per token from steps as (tokens, seconds); the first was the warm-up."""
    rest = list(timed)[1:]
    return sum(s for _, s in rest) / sum(t for t, _ in rest) if rest else None


def probe(
    trainee: Trainee,
    train: Sequence[Example],
    loss_sum: LossSum,
    pace: Pace,
    accelerator: Accelerator,
) -> list[tuple[int, float]]:
    """Time some steps, the largest first, without applying them: (tokens, seconds).

    A step that does not fit in memory reduces ``trainee.token_budget``, as in a run.
    """
    lengths = token_lengths(train)
    steps = _first_epoch(range(len(train)), pace)
    largest = max(steps, key=lambda step: sum(lengths[i] for i in step))
    timed: list[tuple[int, float]] = []
    trainee.token_budget = trainee.token_budget or pace.token_budget
    trainee.model.train()
    for step in [largest, *steps, *steps][:PROBE_STEPS]:
        rows = [train[i] for i in step]
        started = time.perf_counter()
        for _ in fitting_gradients(len(timed) + 1, trainee, rows, loss_sum, accelerator):
            pass
        timed.append((count_tokens(rows), time.perf_counter() - started))
        trainee.forget_gradients()
        slow = sum(seconds for _, seconds in timed) > PROBE_SECONDS
        if len(timed) > 1 and slow and accelerator.num_processes == 1:  # several go on together
            break
    return timed
