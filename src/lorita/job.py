"""The training part of a run: the loop, its watch and its checkpoints, made from the settings.

It takes a model with an adapter on it and leaves it trained; base, files and comparison are the
session's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from lorita import adapter as adapters
from lorita.data.batches import steps_per_epoch
from lorita.prepare import Prepared, evaluation_decides, identity, resume_source
from lorita.processes import is_lead
from lorita.settings import RunSettings
from lorita.training.advice import advice
from lorita.training.checkpoint import (
    find_checkpoint,
    list_checkpoints,
    restore,
    restore_weights,
    save_checkpoint,
)
from lorita.training.events import Event, Note, TrainingEnded, TrainingStarted
from lorita.training.guards import StopRequest
from lorita.training.loop import Hooks, Pace, train
from lorita.training.memory import available_memory, token_budget
from lorita.training.objective import LossSum
from lorita.training.optimizer import Masters, make_optimizer, make_schedule
from lorita.training.step import Trainee
from lorita.training.watch import Watch, window_of

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
    ) -> None:
        self.settings = settings
        self.prepared = prepared
        self.model = model
        self.loss_sum = loss_sum
        self.accelerator = accelerator
        self.evaluate = evaluate
        self.pace = self._pace()
        self.trainee = self._trainee()
        self.watch = self._watch()

    def events(self, stop: StopRequest) -> Iterator[Event]:
        """Train; every random number is drawn after this begins."""
        import torch

        # Dropout draws from here on: what was measured before must not change the run.
        torch.manual_seed(self.settings.seed)
        data = self.prepared.data
        first_step, notes = self._resume()
        yield from (Note(text) for text in notes)
        yield from (Note(text, is_warning=True) for text in self._advice())
        yield TrainingStarted(
            first_step=first_step,
            max_steps=self.pace.max_steps,
            rows=len(data.train),
            held_out_rows=len(data.held_out),
            tokens_per_epoch=sum(len(example.input_ids) for example in data.train),
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
            if isinstance(event, TrainingEnded):
                yield from self._finish()

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
        per_epoch = steps_per_epoch(len(data.train), rows_per_step)
        dtype = self.model.get_base_model().dtype
        budget = token_budget(self.prepared.config, dtype.itemsize, available_memory())
        return Pace(
            max_steps=settings.max_steps or math.ceil(settings.num_train_epochs * per_epoch),
            rows_per_step=rows_per_step,
            token_budget=settings.micro_batch_tokens or budget,
            max_grad_norm=settings.max_grad_norm,
            eval_steps=settings.eval_steps or (per_epoch if evaluation_decides(settings) else None),
            save_steps=settings.save_steps,
            seed=settings.seed,
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

    def _advice(self) -> list[str]:
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
