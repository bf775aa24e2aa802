"""The inputs of the training loop, made from the settings: pace, trainee and watch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lorita.data.batches import steps_per_epoch
from lorita.engine.sharing_check import why_not_shared
from lorita.models.adapter import trainable_parameters
from lorita.runs.chosen import filled_in, step_count, step_size
from lorita.runs.memory_plan import Micro, micro_batches_for
from lorita.runs.unused import unused_in_steps
from lorita.settings.facts import scale_of
from lorita.system.memory import available_memory
from lorita.training.advice import advice
from lorita.training.beginnings import Beginnings, beginnings_of
from lorita.training.loop import Pace
from lorita.training.loss_watch import Watch, window_of
from lorita.training.optimizer import Masters, make_optimizer, make_schedule
from lorita.training.step import Trainee

if TYPE_CHECKING:
    from lorita.runs.prepare import Prepared
    from lorita.runs.run_model import Attached
    from lorita.settings.schema import RunSettings
    from lorita.training.forecast import Work


def micro_of(
    settings: RunSettings, prepared: Prepared, attached: Attached, shared: int = 0
) -> Micro:
    """The micro-batches that fit the memory that is free beside the attached model.

    ``shared`` as for ``micro_batches_for``.
    """
    base = attached.base
    found = micro_batches_for(
        settings, prepared, base.dtype.itemsize, available_memory(),
        can_checkpoint=attached.checkpointing, on_cpu=base.accelerator.device.type == "cpu",
        shared=shared, expands=base.precision is not None,
    )  # fmt: skip
    return replace(found, checkpointing=attached.checkpointing)


def make_pace(settings: RunSettings, prepared: Prepared, micro: Micro, processes: int = 1) -> Pace:
    """The number of steps, the rows per step, and the micro-batches."""
    data = prepared.data
    settings = filled_in(settings, data, processes)
    return Pace(
        max_steps=step_count(settings, data, processes),
        rows_per_step=step_size(settings, processes),
        token_budget=micro.tokens,
        max_grad_norm=settings.max_grad_norm,
        eval_steps=settings.eval_steps,
        save_steps=settings.save_steps,
        seed=settings.seed,
        windows=data.windows,
    )


@dataclass(frozen=True)
class Steps:
    """How a run trains: ``shared`` is what rows begin with in common and is computed once.

    ``notes`` say what was found.
    """

    micro: Micro
    pace: Pace
    shared: Beginnings | None = None
    notes: tuple[str, ...] = ()


def plan_steps(settings: RunSettings, prepared: Prepared, attached: Attached) -> Steps:
    """The steps of a run with this model, and whether their rows share what they begin with."""
    processes = attached.base.accelerator.num_processes
    micro = micro_of(settings, prepared, attached)
    pace = make_pace(settings, prepared, micro, processes)
    if not attached.may_share:
        return Steps(micro, pace)
    shared = beginnings_of(prepared.data.train, pace, processes)
    if shared is None:
        return Steps(micro, pace)
    micro = micro_of(settings, prepared, attached, shared.typical)
    if shared.computed(micro.tokens) == 1:  # they do not fit into a micro-batch together
        return Steps(replace(micro, tokens=pace.token_budget), pace)
    why_not = why_not_shared(attached.base.model)
    if why_not is not None:
        said = (
            f"Rows share a beginning of {shared.typical:,} tokens, but it is computed in every "
            f"row: {why_not}"
        )
        return Steps(replace(micro, tokens=pace.token_budget), pace, notes=(said,))
    pace = replace(pace, token_budget=micro.tokens)
    return Steps(micro, pace, shared, (shared.line(micro.tokens),))


def make_trainee(
    settings: RunSettings, attached: Attached, pace: Pace, *, sharing: bool = False
) -> Trainee:
    """The adapter's parameters with their optimizer and learning-rate schedule.

    ``settings`` are filled in; ``sharing``: what rows begin with in common is computed once.
    """
    assert settings.adam_beta2 is not None
    masters = Masters(trainable_parameters(attached.model))
    optimizer = make_optimizer(
        masters.parameters,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        betas=(settings.adam_beta1, settings.adam_beta2),
        epsilon=settings.adam_epsilon,
        loraplus_lr_ratio=settings.loraplus_lr_ratio,
    )
    attached.fixed.keep_in(optimizer)
    schedule = make_schedule(
        optimizer,
        settings.lr_scheduler_type,
        warmup_steps=settings.warmup_steps,
        max_steps=pace.max_steps,
    )
    cost = len if attached.prompts is None else attached.prompts.cost
    return Trainee(
        attached.model, masters, optimizer, schedule, shares_beginnings=sharing, cost=cost
    )


def advice_for(settings: RunSettings, prepared: Prepared, pace: Pace, work: Work) -> list[str]:
    """Warnings about settings that hurt with this much data, or that do nothing in so few steps."""
    data = prepared.data
    found = advice(
        rows=len(data.train),
        epochs=work.epochs,
        steps=pace.max_steps,
        learning_rate=settings.learning_rate,
        scaling=scale_of(settings),
        warmup_steps=settings.warmup_steps,
        modules_to_save=bool(settings.modules_to_save),
        guarded=settings.evaluation_decides,
        limited=settings.max_steps is not None,
    )
    return [*found, *unused_in_steps(settings, pace, len(data.held_out))]


def make_watch(settings: RunSettings, prepared: Prepared, pace: Pace) -> Watch:
    """The watch over the losses: when to skip a step or stop, and which step was best."""
    per_epoch = steps_per_epoch(len(pace.windows or prepared.data.train), pace.rows_per_step)
    return Watch(
        guessing=math.log(prepared.config.get_text_config().vocab_size),
        window=window_of(per_epoch),
        warmup_steps=settings.warmup_steps,
        max_skipped_steps=settings.max_skipped_steps,
        patience=settings.early_stopping_patience or None,
        keep_best=bool(settings.load_best_model_at_end),
    )
