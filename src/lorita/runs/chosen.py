"""What lorita chooses for the rows at hand, where the settings say nothing.

``filled_in`` is where the rules (``training.schedule``) become settings. What somebody has given
stays as it is, and so do settings that are filled in already: a ``run.yaml`` repeats its run.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lorita.data.batches import steps_per_epoch
from lorita.data.examples import count_tokens
from lorita.training.schedule import beta2_for, evaluation_steps, patience_for, schedule_for

if TYPE_CHECKING:
    from lorita.runs.prepare import PreparedData
    from lorita.settings.schema import RunSettings


def filled_in(settings: RunSettings, data: PreparedData, processes: int = 1) -> RunSettings:
    """The settings with a value for every option that follows from the rows."""
    return _with_stopping(_with_steps(settings, data, processes), data, processes)


def step_size(settings: RunSettings, processes: int) -> int:
    """Rows per step, or windows where rows are packed, of settings that are filled in."""
    batch = settings.per_device_train_batch_size
    assert batch is not None
    return batch * settings.gradient_accumulation_steps * processes


def step_count(settings: RunSettings, data: PreparedData, processes: int) -> int:
    """The steps of a whole run with settings that are filled in."""
    if settings.max_steps is not None:
        return settings.max_steps
    assert settings.num_train_epochs is not None
    return math.ceil(settings.num_train_epochs * _steps_per_epoch(settings, data, processes))


def epochs_of(settings: RunSettings, data: PreparedData, processes: int) -> float:
    """How often a run sees its rows, whatever of its settings is not filled in yet."""
    settings = filled_in(settings, data, processes)
    return step_count(settings, data, processes) / _steps_per_epoch(settings, data, processes)


def _steps_per_epoch(settings: RunSettings, data: PreparedData, processes: int) -> int:
    return steps_per_epoch(len(data.windows or data.train), step_size(settings, processes))


def _with_steps(settings: RunSettings, data: PreparedData, processes: int) -> RunSettings:
    """Batches, epochs and beta2. A step of windows has about as many rows as one of rows."""
    rows, tokens = len(data.train), count_tokens(data.train)
    rows_per_unit = rows / len(data.windows or data.train)
    batches = settings.gradient_accumulation_steps * processes
    batch, epochs = settings.per_device_train_batch_size, settings.num_train_epochs
    if batch is None:
        wanted = schedule_for(rows, tokens).rows_per_step
        batch = max(1, round(wanted / rows_per_unit / batches))
    rows_per_step = batch * batches * rows_per_unit
    if epochs is None and settings.max_steps is None:
        epochs = float(schedule_for(rows, tokens, rows_per_step).epochs)
    beta2 = settings.adam_beta2
    if beta2 is None:
        beta2 = beta2_for(min(rows_per_step, rows) * tokens / rows)
    found = {
        "per_device_train_batch_size": batch,
        "num_train_epochs": epochs,
        "adam_beta2": beta2,
    }
    return settings.model_copy(update=found)


def _with_stopping(settings: RunSettings, data: PreparedData, processes: int) -> RunSettings:
    """Whether the held-out loss ends the run, and how often it is measured for that."""
    patience, keep = settings.early_stopping_patience, settings.load_best_model_at_end
    every, steps = settings.eval_steps, step_count(settings, data, processes)
    if patience is None and keep is None and data.held_out:
        tokens = count_tokens(data.train) * steps / _steps_per_epoch(settings, data, processes)
        # Every process scores all held-out rows.
        affordable = evaluation_steps(steps, round(tokens), count_tokens(data.held_out) * processes)
        wait = patience_for(steps, every or affordable) if affordable is not None else steps
        if (steps - 1) // (every or affordable or steps) > wait:  # it could end before the last
            every, patience = every or affordable, wait
    keep = bool(patience) if keep is None else keep
    if (keep or patience) and every is None:
        every = max(1, min(_steps_per_epoch(settings, data, processes), steps // 10))
    found = {
        "early_stopping_patience": patience,
        "load_best_model_at_end": keep,
        "eval_steps": every,
    }
    return settings.model_copy(update=found)


def chosen_lines(
    before: RunSettings, now: RunSettings, data: PreparedData, processes: int = 1
) -> list[str]:
    """What ``filled_in`` has chosen, in sentences; none where it was given."""
    unit, size = "windows" if data.windows else "rows", step_size(now, processes)
    step = f"{size} {unit if size > 1 else unit[:-1]} per step"
    epochs = now.num_train_epochs or 0
    passes = f"{epochs:g} epoch{'' if epochs == 1 else 's'}"
    own_epochs = before.num_train_epochs is None and now.num_train_epochs is not None
    own_step = before.per_device_train_batch_size is None
    parts = [f"{passes} of {step}"] if own_epochs and own_step else []
    parts = parts or [passes] * own_epochs + [step] * own_step
    if before.adam_beta2 is None:
        parts.append(f"AdamW beta2 {now.adam_beta2:g}")
    found = [f"{', '.join(parts)}: chosen for {len(data.train):,} rows"] if parts else []
    if before.early_stopping_patience is None and now.early_stopping_patience:
        found.append(
            f"The held-out loss is measured every {now.eval_steps} steps; training ends when it no "
            "longer falls, and the best adapter is kept (--early-stopping-patience 0: never)"
        )
    return found
