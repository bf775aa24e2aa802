"""How long a run trains: as it was begun, as its time budget allows, or as its rows suggest.

With a time budget, a few steps are timed and discarded before the first one, so the number of steps
is known when training starts: the run is then an ordinary one with ``max_steps``, and its
``run.yaml`` says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from lorita.errors import SettingsError
from lorita.runs.chosen import chosen_lines, filled_in
from lorita.runs.measuring_time import Writing, around, time_writing
from lorita.runs.output_folder import as_begun
from lorita.runs.questions import affordable, make_questions
from lorita.runs.training_job import TrainingJob
from lorita.runs.training_setup import make_pace
from lorita.system.durations import duration
from lorita.training.deadline import Deadline
from lorita.training.events import Event, Note, PhaseStarted
from lorita.training.forecast import Forecast, count_work

if TYPE_CHECKING:
    from accelerate import Accelerator

    from lorita.evaluation.measure import Questions
    from lorita.runs.prepare import Prepared
    from lorita.runs.run_model import Attached
    from lorita.settings.schema import RunSettings

LEAST_STEPS = 5
"""A budget for fewer is refused, unless the whole training has fewer."""
MARGIN = 0.05
"""Of the budget, kept for what the forecast does not count: saving, checking, small delays."""


LATE = 0.05
"""Of the budget: a run that will end this much later is left alone."""


@dataclass(frozen=True)
class WithinBudget:
    """``settings`` have the number of steps as ``max_steps``, and no budget any more.

    By the ``deadline`` training has to be over, also if its steps take longer than expected.
    """

    settings: RunSettings
    line: str
    deadline: Deadline


def begin_job(
    settings: RunSettings,
    prepared: Prepared,
    attached: Attached,
    prompts: Sequence[str],
    *,
    started: float,
) -> Generator[Event, None, TrainingJob]:
    """The training of a run, whose settings are filled in; says what was chosen.

    ``prompts`` are those to answer before and after it. ``started`` is when the command began
    (``time.perf_counter``). ``SettingsError`` if the time budget is too short.
    """
    asked = as_begun(settings, prepared.output_dir)
    if settings.time_budget is not None and asked.time_budget is None:
        text = f"The run keeps the {asked.max_steps} steps it was begun with, whatever time is left"
        yield Note(text)
    known, deadline = asked, None
    if asked.time_budget is not None:
        yield PhaseStarted("Timing a few steps")
        questions = make_questions(
            asked, prepared, attached.base.model, prompts, trained_tokens=None
        )
        found = within_budget(asked, prepared, attached, questions, started=started)
        yield Note(found.line)
        known, deadline = found.settings, found.deadline
    job = TrainingJob(known, prepared, attached, deadline=deadline)
    processes = attached.base.accelerator.num_processes
    for line in chosen_lines(asked, job.settings, prepared.data, processes):
        yield Note(line)
    return job


def within_budget(
    settings: RunSettings,
    prepared: Prepared,
    attached: Attached,
    questions: Questions,
    *,
    started: float,
) -> WithinBudget:
    """As many steps of the training as end in ``settings.time_budget``, counted from ``started``.

    ``questions`` are those of a whole proof. ``SettingsError`` if only a few steps would not fit.
    """
    budget, accelerator = settings.time_budget, attached.base.accelerator
    assert budget is not None
    job = TrainingJob(settings, prepared, attached)
    measured = job.probe().seconds_per_token
    writing = time_writing(attached.base.model, questions)
    # Several processes must come to the same number: all go by what the first one has measured.
    per_token, before, *seconds = _of_the_first(
        accelerator,
        [measured or 0.0, time.perf_counter() - started, *astuple(writing)],
    )
    writing = Writing(*seconds)

    def forecast(steps: int) -> Forecast:
        data = prepared.data
        trial = _of_length(settings, prepared, steps, accelerator.num_processes)
        pace = make_pace(trial, prepared, job.micro, accelerator.num_processes)
        work = count_work(data.train, data.held_out, pace, job.shared)
        asked = affordable(questions, work.tokens)
        return Forecast(work, 0, None, per_token, around(asked, before, writing))

    whole = job.pace.max_steps
    usable = budget * (1 - MARGIN)
    steps = most_steps(lambda steps: (forecast(steps).seconds_in_all or 0.0) <= usable, whole)
    least = min(LEAST_STEPS, whole)
    if steps < least:
        raise _too_short(settings, forecast(least))
    found = forecast(steps)
    after = found.seconds_after or 0.0
    return WithinBudget(
        _of_length(settings, prepared, steps, accelerator.num_processes),
        _line(budget, steps, whole, found),
        Deadline(started + budget - after, LATE * budget),
    )


def most_steps(fits: Callable[[int], bool], whole: int) -> int:
    """The largest number up to ``whole`` that ``fits``, 0 if none does; what is less fits, too."""
    if fits(whole):
        return whole
    most, too_many = 0, whole
    while too_many - most > 1:
        middle = (most + too_many) // 2
        most, too_many = (middle, too_many) if fits(middle) else (most, middle)
    return most


def _of_length(
    settings: RunSettings, prepared: Prepared, steps: int, processes: int
) -> RunSettings:
    """The settings of a run of so many steps, filled in anew: that decides about evaluations."""
    length = {"max_steps": steps, "num_train_epochs": None, "time_budget": None}
    return filled_in(settings.model_copy(update=length), prepared.data, processes)


def _of_the_first(accelerator: Accelerator, values: Sequence[float]) -> list[float]:
    """The values of the first process, in every process."""
    if accelerator.num_processes == 1:
        return list(values)
    import torch

    mine = torch.tensor(values, dtype=torch.float64) * (accelerator.process_index == 0)
    found: list[float] = accelerator.reduce(mine.to(accelerator.device), reduction="sum").tolist()
    return found


def _line(budget: float, steps: int, whole: int, found: Forecast) -> str:
    many = f"{steps} of {whole} steps ({found.work.epochs:.2g} epochs)"
    enough = f"enough for all {whole} steps" if steps == whole else many
    in_all = duration(found.seconds_in_all or 0.0)
    return f"Time budget {duration(budget)}: {enough}, about {in_all} in all"


def _too_short(settings: RunSettings, found: Forecast) -> SettingsError:
    assert found.around is not None and settings.time_budget is not None
    needed = 1.1 * (found.seconds_in_all or 0.0) / (1 - MARGIN)
    hint = f"Give at least --time-budget {math.ceil(needed)}s"
    if settings.proof:
        hint += ", or --no-proof, which leaves most of the measuring out"
    return SettingsError(
        f"time_budget {duration(settings.time_budget)} is too short: it takes "
        f"{duration(found.around.before)} until training can start, "
        f"{duration(found.seconds or 0.0)} for {found.work.steps} steps, and "
        f"{duration(found.seconds_after or 0.0)} to measure the result",
        hint=f"{hint}.",
    )
