"""The training part of a run: the loop, its watch and its checkpoints, made from the settings.

It takes a model with an adapter on it and leaves it trained; base, files and comparison are the
session's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from lorita.data.batches import steps_per_epoch
from lorita.errors import RunFailed
from lorita.models import adapter as adapters
from lorita.runs.identity import identity
from lorita.runs.output_folder import resume_source
from lorita.runs.prepare import Prepared
from lorita.runs.read_data import evaluation_decides
from lorita.settings.schema import RunSettings
from lorita.system.memory import available_memory, memory_in_use, peak_memory
from lorita.system.processes import is_lead
from lorita.training.advice import advice
from lorita.training.checkpoint import (
    find_checkpoint,
    list_checkpoints,
    restore,
    restore_weights,
    save_checkpoint,
)
from lorita.training.events import Event, Note, StepDone, TrainingEnded, TrainingStarted
from lorita.training.forecast import PROBE_STEPS, Forecast, count_work, from_timed, probe, proposals
from lorita.training.loop import Hooks, Pace, train
from lorita.training.loss_watch import Watch, window_of
from lorita.training.objective import LossSum
from lorita.training.optimizer import Masters, make_optimizer, make_schedule
from lorita.training.random_state import untouched_random_states
from lorita.training.step import Trainee
from lorita.training.stop_request import StopRequest
from lorita.training.token_budget import bytes_per_token, most_tokens, token_budget

if TYPE_CHECKING:
    from pathlib import Path

    from accelerate import Accelerator
    from peft import PeftModel


class Job:
    """One training; ``events`` does it."""

    def __init__(
        self,
        settings: RunSettings,
        prepared: Prepared,
        model: PeftModel,
        loss_sum: LossSum,
        accelerator: Accelerator,
        *,
        evaluate: Callable[[], float] | None = None,
        checkpointing: bool = False,
    ) -> None:
        self.settings = settings
        self.checkpointing = checkpointing
        self.prepared = prepared
        self.model = model
        self.loss_sum = loss_sum
        self.accelerator = accelerator
        self.evaluate = evaluate
        self._timed: list[tuple[int, float]] = []
        self.pace = self._pace()
        self.trainee = self._trainee()
        self.watch = self._watch()
        data = prepared.data
        self.work = count_work(data.train, data.held_out, self.pace, self.pace.token_budget)

    def events(self, stop: StopRequest) -> Iterator[Event]:
        """Train; every random number is drawn after this begins."""
        import torch

        # Dropout draws from here on: what was measured before must not change the run.
        torch.manual_seed(self.settings.seed)
        data = self.prepared.data
        first_step, notes = self._resume()
        yield from (Note(text) for text in notes)
        yield from (Note(text, is_warning=True) for text in [*self.advice(), *self.too_large()])
        yield TrainingStarted(
            first_step=first_step,
            max_steps=self.pace.max_steps,
            rows=len(data.train),
            held_out_rows=len(data.held_out),
            tokens_per_epoch=self.work.tokens_per_epoch,
        )
        for event in train(
            self.trainee,
            data.train,
            self.loss_sum,
            self.pace,
            accelerator=self.accelerator,
            hooks=Hooks(self.evaluate, self._save, stop),
            watch=self.watch,
            first_step=first_step,
        ):
            yield event
            if isinstance(event, StepDone):
                yield from self._forecast_of(event)
            if isinstance(event, TrainingEnded):
                yield from self._finish()

    def forecast(self, timed: Sequence[tuple[int, float]] = ()) -> Forecast:
        """What the run will take, from steps that were timed as (tokens, seconds)."""
        state = 12 * sum(p.numel() for p in self.trainee.masters.parameters.values())
        return Forecast(
            self.work,
            max(peak_memory(), memory_in_use() + state),
            available_memory(),
            from_timed(timed),
        )

    def probe(self) -> Forecast:
        """The forecast from a few steps whose gradients are computed and forgotten."""
        rows = self.prepared.data.train
        with untouched_random_states():
            timed = probe(self.trainee, rows, self.loss_sum, self.pace, self.accelerator)
        return self.forecast(timed)

    def too_large(self) -> list[str]:
        """What to do where the longest row may not fit into memory."""
        if self.checkpointing:
            return []
        found = proposals(
            self.work.longest,
            self._per_token(),
            available_memory(),
            narrow=self.model.get_base_model().dtype.itemsize == 2,
        )
        return [found] if found else []

    def _forecast_of(self, event: StepDone) -> Iterator[Event]:
        """The forecast, once, from the run's own first steps: it costs no time."""
        self._timed.append((event.tokens, event.seconds))
        if self.settings.probe and len(self._timed) == PROBE_STEPS < self.pace.max_steps:
            yield from (Note(text) for text in self.forecast(self._timed).lines())

    def _per_token(self) -> int:
        itemsize = self.model.get_base_model().dtype.itemsize
        return bytes_per_token(
            self.prepared.config,
            itemsize,
            fast=self.settings.speedup,
            checkpointing=self.checkpointing,
        )

    def restore_good(self) -> int:
        """Put the last good weights into the model; return the step that made them."""
        return self.watch.restore_good(self.trainee)

    def _save(self, step: int) -> Path:
        folder = self.prepared.output_dir
        if not is_lead():
            return folder / f"checkpoint-{step}"
        return save_checkpoint(
            folder,
            step,
            self.model,
            self.trainee,
            self.watch,
            keep=self.settings.save_total_limit,
            identity=identity(self.settings, self.prepared),
        )

    def _finish(self) -> Iterator[Event]:
        if self.watch.seen.steps == 0 and self.watch.seen.skipped:
            raise RunFailed("no step could be applied: the loss or gradient of each is not finite")
        if self.watch.seen.skipped:
            yield Note(
                f"{self.watch.seen.skipped} steps were skipped: their loss or gradient was not "
                "finite",
                is_warning=True,
            )
        step, loss = self.watch.best
        if not self.settings.load_best_model_at_end or step == 0:
            return
        folder = self.prepared.output_dir / f"checkpoint-{step}"
        try:
            restore_weights(folder, self.model)
        except (OSError, ValueError) as error:
            text = f"the last weights are kept, the best ones cannot be read: {folder}: {error}"
            yield Note(text, is_warning=True)
            return
        yield Note(f"Best held-out loss {loss:.4f} at step {step}: its adapter is taken")

    def _resume(self) -> tuple[int, list[str]]:
        """Put the wanted checkpoint in; return its step (0 for none) and what there is to say."""
        wanted = resume_source(self.settings)
        folder = self.prepared.output_dir
        if wanted is None:
            return 0, []
        if wanted == "last" and not list_checkpoints(folder):
            return 0, [f"{folder}: there is no checkpoint to continue: starting at the first step"]
        path, state, damaged = find_checkpoint(
            folder, wanted, identity(self.settings, self.prepared)
        )
        step = restore(path, state, self.model, self.trainee, self.watch)
        if self.settings.micro_batch_tokens is not None:
            self.trainee.token_budget = self.settings.micro_batch_tokens
        notes = [f"Passed over: {line}" for line in damaged]
        return step, [*notes, f"Continuing after step {step}, from {path}"]

    def _pace(self) -> Pace:
        settings, data = self.settings, self.prepared.data
        rows_per_step = (
            settings.per_device_train_batch_size
            * settings.gradient_accumulation_steps
            * self.accelerator.num_processes
        )
        per_epoch = steps_per_epoch(len(data.windows or data.train), rows_per_step)
        itemsize = self.model.get_base_model().dtype.itemsize
        most = most_tokens(itemsize, on_cpu=self.accelerator.device.type == "cpu")
        budget = token_budget(self._per_token(), available_memory(), most)
        return Pace(
            max_steps=settings.max_steps or math.ceil(settings.num_train_epochs * per_epoch),
            rows_per_step=rows_per_step,
            token_budget=settings.micro_batch_tokens or budget,
            max_grad_norm=settings.max_grad_norm,
            eval_steps=settings.eval_steps or (per_epoch if evaluation_decides(settings) else None),
            save_steps=settings.save_steps,
            seed=settings.seed,
            windows=data.windows,
        )

    def _trainee(self) -> Trainee:
        settings = self.settings
        masters = Masters(adapters.trainable_parameters(self.model))
        optimizer = make_optimizer(
            masters.parameters,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            betas=(settings.adam_beta1, settings.adam_beta2),
            epsilon=settings.adam_epsilon,
        )
        schedule = make_schedule(
            optimizer,
            settings.lr_scheduler_type,
            warmup_steps=settings.warmup_steps,
            max_steps=self.pace.max_steps,
        )
        return Trainee(self.model, masters, optimizer, schedule)

    def _watch(self) -> Watch:
        settings = self.settings
        per_epoch = steps_per_epoch(len(self.prepared.data.train), self.pace.rows_per_step)
        return Watch(
            guessing=math.log(self.prepared.config.get_text_config().vocab_size),
            window=window_of(per_epoch),
            warmup_steps=settings.warmup_steps,
            max_skipped_steps=settings.max_skipped_steps,
            patience=settings.early_stopping_patience,
            keep_best=settings.load_best_model_at_end,
        )

    def advice(self) -> list[str]:
        """Settings that are known to hurt with so much data."""
        settings = self.settings
        return advice(
            rows=len(self.prepared.data.train),
            rows_per_step=self.pace.rows_per_step,
            steps=self.pace.max_steps,
            learning_rate=settings.learning_rate,
            scaling=settings.lora_alpha / (settings.r**0.5 if settings.use_rslora else settings.r),
            warmup_steps=settings.warmup_steps,
            modules_to_save=bool(settings.modules_to_save),
            guarded=evaluation_decides(settings),
        )
