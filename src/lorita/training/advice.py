"""Warns, before the first step, of settings that are known to spoil a run of this size."""

from __future__ import annotations

FEW_ROWS = 200
MANY_EPOCHS = 5
FEW_STEPS = 10
HIGH_RATE = 1e-2


def advice(
    *,
    rows: int,
    epochs: float,
    steps: int,
    learning_rate: float,
    scaling: float,
    warmup_steps: int,
    modules_to_save: bool,
    guarded: bool,
    limited: bool = False,
) -> list[str]:
    """A sentence for each setting that is likely to spoil the run, with what to do instead.

    ``epochs`` is how many times a row is seen, a part of an epoch included. ``scaling`` is
    lora_alpha/r (or lora_alpha/sqrt(r)). AdamW moves the LoRA matrices by about the learning rate
    per step, and so the model by about the learning rate times the scaling. ``guarded`` says that
    the held-out loss decides when to stop or which checkpoint to use, ``limited`` that a number of
    steps was given instead of epochs.
    """
    found = []
    if rows < FEW_ROWS and epochs >= MANY_EPOCHS and not guarded:
        found.append(
            f"{rows} rows are seen {_times(epochs)} times: with so few rows, more than about "
            f"{MANY_EPOCHS - 2} epochs make the model memorise them. Lower "
            f"{'--max-steps' if limited else '--num-train-epochs'}, or use --load-best-model-at-end"
        )
    if learning_rate * scaling > HIGH_RATE:
        found.append(
            f"a learning rate of {learning_rate:g} with a scaling of {scaling:g} moves the model "
            f"far in each step; runs tend to diverge when the product exceeds {HIGH_RATE:g}. Try "
            f"--learning-rate {HIGH_RATE / 10 / scaling:.0e}"
        )
    if steps < FEW_STEPS:
        found.append(
            f"few steps ({steps}): the adapter will hardly change. For more steps, lower "
            "--per-device-train-batch-size or raise "
            f"{'--max-steps' if limited else '--num-train-epochs'}"
        )
    if warmup_steps >= steps:
        found.append(
            f"warmup_steps {warmup_steps} of {steps} steps: the learning rate never reaches "
            f"{learning_rate:g}"
        )
    if modules_to_save and rows < FEW_ROWS:
        found.append(
            f"modules_to_save trains whole modules on {rows} rows: the model will lose some of "
            "what it knew"
        )
    return found


def _times(epochs: float) -> str:
    """``6``, ``5.5``: whole where it is whole."""
    return f"{epochs:.1f}".removesuffix(".0")
