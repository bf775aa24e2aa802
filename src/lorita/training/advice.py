"""Settings that are known to hurt at the size of the data, pointed out before the first step."""

from __future__ import annotations

FEW_ROWS = 200
MANY_EPOCHS = 5
FEW_STEPS = 10
HIGH_RATE = 1e-2


def advice(
    *,
    rows: int,
    rows_per_step: int,
    steps: int,
    learning_rate: float,
    scaling: float,
    warmup_steps: int,
    modules_to_save: bool,
    guarded: bool,
) -> list[str]:
    """One sentence for each setting that is likely to spoil the run, with what to do instead.

    ``scaling`` is lora_alpha/r (or /sqrt(r)): AdamW moves the matrices by about the learning rate
    a step, and the model by that times the scaling. ``guarded``: held-out loss decides anyway.
    """
    found = []
    epochs = steps * rows_per_step / rows
    if rows < FEW_ROWS and epochs >= MANY_EPOCHS and not guarded:
        found.append(
            f"{rows} rows are seen {epochs:.0f} times: with so few, more than {MANY_EPOCHS - 2} or "
            "so teach them by heart. Fewer --num-train-epochs, or --load-best-model-at-end"
        )
    if learning_rate * scaling > HIGH_RATE:
        found.append(
            f"a learning rate of {learning_rate:g} with a scaling of {scaling:g} moves the model "
            f"far at each step; above {HIGH_RATE:g} together, runs tend to diverge. Try "
            f"--learning-rate {HIGH_RATE / 10 / scaling:.0e}"
        )
    if steps < FEW_STEPS:
        found.append(
            f"only {steps} steps: the adapter will hardly move. A smaller "
            "--per-device-train-batch-size or more --num-train-epochs give more"
        )
    if warmup_steps >= steps:
        found.append(
            f"warmup_steps {warmup_steps} of {steps} steps: the learning rate never becomes "
            f"{learning_rate:g}"
        )
    if modules_to_save and rows < FEW_ROWS:
        found.append(
            f"modules_to_save trains whole modules on {rows} rows: what the model knew will suffer"
        )
    return found
