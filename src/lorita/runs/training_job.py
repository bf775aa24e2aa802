"""The training part of a run: the loop with its watch and its checkpoints.

It trains the attached adapter. Saving and measuring the result is done in ``run.py``.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from lorita.errors import Interrupted, RunFailed
from lorita.evaluation.scores import score_rows
from lorita.models.memory_needs import idle_inputs
from lorita.runs.best_adapter import keep_best
from lorita.runs.chosen import filled_in
from lorita.runs.identity import conditions, identity
from lorita.runs.memory_plan import memory_per_token, reckoned_peak
from lorita.runs.output_folder import resume_source
from lorita.runs.training_setup import advice_for, make_trainee, make_watch, plan_steps
from lorita.storage.run_log import continue_log
from lorita.system.memory import available_memory, peak_memory, release_freed
from lorita.system.processes import is_lead
from lorita.training.checkpoint import (
    find_checkpoint,
    keep_until_recorded,
    list_checkpoints,
    restore,
    save_checkpoint,
)
from lorita.training.events import (
    Event,
    Note,
    PhaseStarted,
    StepDone,
    TrainingEnded,
    TrainingStarted,
)
from lorita.training.forecast import (
    PROBE_STEPS,
    Around,
    Forecast,
    count_work,
    from_timed,
    probe,
    proposals,
)
from lorita.training.loop import Hooks, train
from lorita.training.random_state import untouched_random_states

if TYPE_CHECKING:
    from pathlib import Path

    from lorita.runs.prepare import Prepared
    from lorita.runs.run_model import Attached
    from lorita.settings.schema import RunSettings
    from lorita.training.deadline import Deadline
    from lorita.training.stop_request import StopRequest


UNLIMITED = 10**9


class _GivenUp(Exception):
    """An evaluation was given up, because a stop is requested."""


class TrainingJob:
    """The training of an attached adapter; iterate ``events`` to run it.

    ``settings`` are filled in. ``pace``, ``trainee`` and ``watch`` are the loop's inputs, ``work``
    counts what it will compute, ``notes`` say what is special about it, and ``around`` is what the
    run takes beside it, if that is known. ``shared`` is what rows begin with and is computed once.
    By the ``deadline``, if there is one, training has to be over.
    """

    def __init__(
        self,
        settings: RunSettings,
        prepared: Prepared,
        attached: Attached,
        *,
        deadline: Deadline | None = None,
    ) -> None:
        processes = attached.base.accelerator.num_processes
        self.settings = settings = filled_in(settings, prepared.data, processes)
        self.prepared = prepared
        self.attached = attached
        steps = plan_steps(settings, prepared, attached)
        self.pace, self.micro, self.shared = steps.pace, steps.micro, steps.shared
        self.notes = steps.notes
        sharing = steps.shared is not None
        self.trainee = make_trainee(settings, attached, self.pace, sharing=sharing)
        self.watch = make_watch(settings, prepared, self.pace)
        data = prepared.data
        self.work = count_work(data.train, data.held_out, self.pace, steps.shared)
        self.deadline = deadline
        self._came_from: Path | None = None
        self.around: Around | None = None
        # Reckoned now: later the files of the base may be gone.
        base = attached.base
        trained = sum(p.numel() for p in self.trainee.masters.parameters.values())
        self._peak = reckoned_peak(
            settings, prepared, base.sizes, base.dtype.itemsize, steps.micro, self.work,
            trained=trained, used=base.used_before, idle=idle_inputs(attached.model),
        )  # fmt: skip

    def events(self, stop: StopRequest) -> Iterator[Event]:
        """Train; all random numbers are drawn after this starts."""
        import torch

        # Dropout draws from here on: what was measured before must not change the run.
        torch.manual_seed(self.settings.seed)
        data, timed = self.prepared.data, list[tuple[int, float]]()
        first_step, notes = self._resume()
        yield from notes
        yield from (Note(text) for text in self.notes)
        yield from (Note(text, is_warning=True) for text in [*self.advice(), *self.too_large()])
        yield TrainingStarted(
            first_step=first_step,
            max_steps=self.trainee.last_step(self.pace.max_steps),
            rows=len(data.train),
            held_out_rows=len(data.held_out),
            tokens_per_epoch=self.work.tokens_per_epoch,
        )
        for event in train(
            self.trainee,
            data.train,
            self.attached.loss_sum,
            self.pace,
            accelerator=self.attached.base.accelerator,
            hooks=Hooks(
                partial(self._evaluate, stop) if data.held_out else None,
                partial(self._save, stop),
                stop,
                self.deadline,
            ),
            watch=self.watch,
            first_step=first_step,
        ):
            yield event
            if isinstance(event, StepDone):
                timed.append((event.tokens, event.seconds))
                if self.settings.probe and len(timed) == PROBE_STEPS < self.pace.max_steps:
                    forecast = self.forecast(timed)
                    yield from (Note(text) for text in forecast.lines())
                    yield forecast.event()
            if isinstance(event, TrainingEnded):
                self._save_last(event.steps)
                yield from self._finish(event.steps)
        if stop.requested:
            raise Interrupted("interrupted after training, before its result was measured")

    def forecast(self, timed: Sequence[tuple[int, float]] = ()) -> Forecast:
        """Time and memory of the run, from timed steps given as (tokens, seconds)."""
        seen = peak_memory()
        mine = seen if seen > self.attached.base.peak_before else 0  # or it is an earlier run's
        prompts = self.attached.prompts
        still = prompts.expected - prompts.bytes if prompts is not None else 0
        peak = max(mine, self._peak) + max(still, 0)
        return Forecast(self.work, peak, available_memory(), from_timed(timed), self.around)

    def probe(self) -> Forecast:
        """The forecast from a few steps whose gradients are computed and discarded."""
        with untouched_random_states():
            timed = probe(
                self.trainee,
                self.prepared.data.train,
                self.attached.loss_sum,
                self.pace,
                self.attached.base.accelerator,
            )
        return self.forecast(timed)

    def too_large(self) -> list[str]:
        """A warning with remedies if the longest row may not fit in memory."""
        if self.attached.checkpointing:
            return []
        found = proposals(
            self.work.longest,
            memory_per_token(
                self.settings,
                self.prepared,
                self.attached.base.dtype.itemsize,
                checkpointing=self.attached.checkpointing,
            ),
            available_memory(),
            narrow=self.attached.base.dtype.itemsize == 2,
        )
        return [found] if found else []

    def restore_good(self) -> int:
        """Load the last good weights into the model; return the step they are from."""
        return self.watch.restore_good(self.trainee)

    def _evaluate(self, stop: StopRequest) -> Generator[Event, None, float | None]:
        accelerator, rows = self.attached.base.accelerator, self.prepared.data.held_out

        def give_up_if_stopped() -> None:
            if stop.requested and accelerator.num_processes == 1:
                raise _GivenUp

        yield (phase := PhaseStarted("Scoring the held-out rows", len(rows), "rows"))
        try:
            scores = score_rows(
                self.attached.base.model, rows, accelerator.device,
                before_each=give_up_if_stopped, advance=phase.advance,
            )  # fmt: skip
        except _GivenUp:
            return None
        return scores.rows().mean

    def _save(self, stop: StopRequest, step: int) -> Path:
        folder = self.prepared.output_dir / f"checkpoint-{step}"
        if is_lead():
            self._write(step, keep=self.settings.save_total_limit)
            if self.settings.save_steps is None and not stop.requested:
                keep_until_recorded(folder)  # the best so far, whose adapter the run will have
        # A process that ends first makes the launcher end the one that is writing.
        self.attached.base.accelerator.wait_for_everyone()
        return folder

    def _save_last(self, step: int) -> None:
        """A checkpoint of the finished training, for as long as its result is being measured."""
        folder = self.prepared.output_dir / f"checkpoint-{step}"
        if not is_lead() or folder.exists() or step == 0:
            return
        try:
            keep_until_recorded(self._write(step, keep=UNLIMITED))
        except (OSError, MemoryError):  # the adapter itself is saved next, and says what is wrong
            return

    def _write(self, step: int, *, keep: int) -> Path:
        release_freed()  # files are put together in memory, which the step may have filled
        return save_checkpoint(
            self.prepared.output_dir,
            step,
            self.attached.model,
            self.trainee,
            self.watch,
            keep=keep,
            **self._described,
        )

    @cached_property
    def _described(self) -> dict[str, Mapping[str, Any]]:
        """What a checkpoint keeps to tell whether a run may continue from it."""
        base = self.attached.base
        own = identity(self.settings, self.prepared, base, self.pace.rows_per_step)
        return {"identity": own, "conditions": conditions(self.settings, base)}

    def _finish(self, done: int) -> Iterator[Event]:
        if self.watch.seen.steps == 0 and self.watch.seen.skipped:
            raise RunFailed("no step could be applied: every loss or gradient was not finite")
        if self.watch.seen.skipped:
            yield Note(
                f"{self.watch.seen.skipped} steps were skipped: their loss or gradient was not "
                "finite",
                is_warning=True,
            )
        if self.settings.load_best_model_at_end:
            folders = [self.prepared.output_dir, *([self._came_from] if self._came_from else [])]
            yield from keep_best(self.watch, self.attached.model, folders, last=done)

    def find_checkpoint(self) -> tuple[Path, dict[str, Any], list[str]] | None:
        """The checkpoint to continue from, if one was asked for and there is one.

        ``OutputError`` if it cannot be used. Changes nothing.
        """
        wanted = resume_source(self.settings)
        folder = self.prepared.output_dir
        if wanted is None or (wanted == "last" and not list_checkpoints(folder)):
            return None
        inexact = self.settings.resume_inexact
        return find_checkpoint(folder, wanted, **self._described, inexact=inexact)

    def _resume(self) -> tuple[int, list[Note]]:
        """Restore the requested checkpoint; return its step (0 for none) and notes."""
        found = self.find_checkpoint()
        if found is None and resume_source(self.settings) is None:
            return 0, []
        if found is None:
            text = f"{self.prepared.output_dir}: no checkpoint to continue from; starting at the "
            return 0, [Note(text + "first step")]
        path, state, warnings = found
        folder = self.prepared.output_dir
        step = restore(path, state, self.attached.model, self.trainee, self.watch)
        if self.settings.micro_batch_tokens is not None:
            self.trainee.token_budget = self.settings.micro_batch_tokens
        if is_lead():
            continue_log(path.parent, folder, step, self.watch.last_loss)
        self._came_from = path.parent
        said = [Note(line, is_warning=True) for line in warnings]
        return step, [*said, Note(f"Continuing after step {step}, from {path}")]

    def advice(self) -> list[str]:
        """Warnings about settings that are known to hurt with this much data."""
        return advice_for(self.settings, self.prepared, self.pace, self.work)
